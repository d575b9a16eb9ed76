-- Published benchmark runs and learning curves.
-- Grain: one row for each of them. Columns: stage, digest, arm, folder.
select
    stage,
    digest,
    arm,
    folder
from published
where stage in ('benchmarks', 'curves')
order by stage, arm, digest
