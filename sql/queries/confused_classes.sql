-- Which class's pixels a benchmark run labels as which other class, most pixels first. For one:
-- ovseg sql -c "from class_confusion where class_name = 'sea' order by pixels desc"
-- Grain: one row for each (benchmark, system, arm, class, predicted class) with wrong pixels.
--   Columns: benchmark, system, arm, class_name, predicted, pixels, share (of the class's
--   pixels), images. A pixel left without a class counts under '(none)'; ignored pixels do not
--   count.
select
    benchmark,
    system,
    arm,
    class_name,
    predicted,
    pixels,
    round(share, 4) as share,
    images
from class_confusion
order by pixels desc, benchmark, system, arm, class_name, predicted
