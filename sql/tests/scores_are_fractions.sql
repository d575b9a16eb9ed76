-- Every score is in 0..1, as is its interval, low before high. Rows: scores that are not.
-- Severity: error.
select
    benchmark,
    benchmark_digest,
    metric,
    value
from scores
where not value between 0 and 1 or isnan(value) or low < 0 or high > 1 or low > high
union all
select
    benchmark,
    benchmark_digest,
    class_name || ' iou' as metric,
    iou as value
from class_scores
where not iou between 0 and 1 or isnan(iou)
