-- Every score lies in 0..1. Rows: scores that do not.
select
    benchmark,
    benchmark_digest,
    metric,
    value
from scores
where not value between 0 and 1 or isnan(value)
union all
select
    benchmark,
    benchmark_digest,
    class_name || ' iou' as metric,
    iou as value
from class_scores
where not iou between 0 and 1 or isnan(iou)
