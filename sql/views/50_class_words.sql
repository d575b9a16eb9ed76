-- Every word for a benchmark's class, normalized like caption nouns: lower case, spaces.
-- Grain: one row for each (benchmark, class_id, word). A word may stand for several classes.
-- Columns: benchmark, class_id, class_name, word.
select distinct
    benchmark,
    class_id,
    class_name,
    trim(regexp_replace(lower(synonym), '[\s_-]+', ' ', 'g')) as word
from vocabularies
