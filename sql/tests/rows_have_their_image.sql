-- Nouns, proposals and pairs belong to images of the source. Rows: image ids that are not listed
-- there, for data sets whose images are published.
-- Severity: error.
select
    rows_of.relation,
    rows_of.dataset,
    rows_of.image_id
from (
    select distinct
        'nouns' as relation,
        dataset,
        image_id
    from nouns
    union all
    select distinct
        'proposals' as relation,
        dataset,
        image_id
    from proposals
    union all
    select distinct
        'pairs' as relation,
        dataset,
        image_id
    from pairs
) as rows_of
anti join images using (dataset, image_id)
where rows_of.dataset in (select dataset from images)
