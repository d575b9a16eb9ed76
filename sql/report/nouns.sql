-- Nouns with kept pairs, most frequent first.
-- Grain: one row for each noun.
-- Columns: noun, pairs, judged, right_pairs, similarity (mean).
select
    mined.noun,
    count(*) as pairs,
    count(truth.correct) as judged,
    count(*) filter (truth.correct) as right_pairs,
    avg(mined.clip_similarity) as similarity
from mined_pairs as mined
left join pair_truth as truth using (pair_id)
where mined.kept
group by mined.noun
order by pairs desc, mined.noun
