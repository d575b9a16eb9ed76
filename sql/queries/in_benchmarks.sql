-- Images of the source that are also in a benchmark of the run, so that they are not trained on.
-- Grain: one row for each (dataset, image_id, benchmark). Columns: dataset, image_id, image_path,
--   benchmark, told_by (sha256: the same bytes; id: the same published id; phash: the same look).
with held as (
    select
        dataset,
        image_id,
        image_path,
        unnest(string_split(split_part(drop_reason, ':', 2), ', ')) as place
    from images
    where starts_with(drop_reason, 'in_benchmark:')
)

select
    dataset,
    image_id,
    image_path,
    split_part(place, ' by ', 1) as benchmark,
    split_part(place, ' by ', 2) as told_by
from held
order by dataset, benchmark, image_id
