-- A ground-truth mask was not proposed, so it has no score; no caption names its label, and no
-- CLIP chose it. Rows: ground-truth pairs that say otherwise.
-- Severity: error.
select
    pair_id,
    source,
    noun,
    proposal_score,
    clip_similarity
from pairs
where
    (source in ('gt_label', 'gt_noun') and proposal_score is not null)
    or (
        source = 'gt_label'
        and (
            proposal_id is not null
            or clip_similarity is not null
            or clip_margin is not null
            or noun_rank is not null
            or proposal_rank is not null
            or mutual_best is not null
            or clip_model is not null
            or mentions is not null
            or head is not null
            or parser is not null
        )
    )
