-- Which classes of a benchmark are seen once masks of another vocabulary are trained on: those
-- that share a word, their name or a listed synonym, with one of its classes.
-- Grain: one row for each (benchmark, trained_on, class_id).
-- Columns: benchmark, trained_on (the vocabulary), class_id, class_name, seen, words (those
--   shared).
with shared as (
    select
        own.benchmark,
        trained.benchmark as trained_on,
        own.class_id,
        list(distinct own.word order by own.word) as words
    from class_words as own
    inner join class_words as trained using (word)
    group by own.benchmark, trained.benchmark, own.class_id
)

select
    classes.benchmark,
    vocabularies.trained_on,
    classes.class_id,
    classes.class_name,
    shared.words is not null as seen,
    shared.words
from (
    select distinct
        benchmark,
        class_id,
        class_name
    from class_words
) as classes
cross join (select distinct benchmark as trained_on from class_words) as vocabularies
left join shared
    on
        classes.benchmark = shared.benchmark
        and vocabularies.trained_on = shared.trained_on
        and classes.class_id = shared.class_id
