-- How often training met each class of a benchmark: as a noun of captions, as a mined pair, as a
-- mask.
-- Grain: one row for each (benchmark, dataset, class_id); dataset is null if no table is published.
-- Columns: benchmark, dataset, class_id, class_name, mentions, images (of any word for the class in
--   captions), kept_pairs (mined, latest round), label_pairs (ground-truth masks of the class: such
--   a class is seen).
-- Stored in the catalog.
with datasets as (
    select distinct dataset
    from nouns
    where noun is not null
    union
    select distinct dataset
    from pairs
),

classes as (
    select
        vocabulary.benchmark,
        datasets.dataset,
        vocabulary.class_id,
        vocabulary.class_name
    from (
        select distinct
            benchmark,
            class_id,
            class_name
        from vocabularies
    ) as vocabulary
    left join datasets on true
),

named as (
    select
        class_words.benchmark,
        class_words.class_id,
        nouns.dataset,
        count(*) as mentions,
        count(distinct nouns.image_id) as images
    from class_words
    inner join nouns on class_words.word = nouns.noun
    group by all
),

paired as (
    select
        class_words.benchmark,
        class_words.class_id,
        counted.dataset,
        sum(counted.n)::bigint as kept_pairs
    from class_words
    inner join (
        select
            dataset,
            noun,
            count(*) as n
        from mined_pairs
        where kept
        group by dataset, noun
    ) as counted on class_words.word = counted.noun
    group by all
),

labelled as (
    select
        class_words.benchmark,
        class_words.class_id,
        counted.dataset,
        sum(counted.n)::bigint as label_pairs
    from class_words
    inner join (
        select
            dataset,
            noun,
            count(*) as n
        from pairs
        where source = 'gt_label' and kept
        group by dataset, noun
    ) as counted
        on class_words.word = trim(regexp_replace(lower(counted.noun), '[\s_-]+', ' ', 'g'))
    group by all
)

select
    classes.benchmark,
    classes.dataset,
    classes.class_id,
    classes.class_name,
    coalesce(named.mentions, 0) as mentions,
    coalesce(named.images, 0) as images,
    coalesce(paired.kept_pairs, 0) as kept_pairs,
    coalesce(labelled.label_pairs, 0) as label_pairs
from classes
left join named using (benchmark, class_id, dataset)
left join paired using (benchmark, class_id, dataset)
left join labelled using (benchmark, class_id, dataset)
