-- Only kept pairs of the table were judged by ground truth. Rows: judgments of other pairs.
-- Severity: error.
select
    truth.pair_id,
    truth.noun,
    pairs.kept
from pair_truth as truth
left join pairs using (pair_id)
where pairs.kept is not true
