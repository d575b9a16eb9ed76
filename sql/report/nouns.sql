-- Nouns with kept pairs, most frequent first.
-- Grain: one row for each noun.
-- Columns: noun, pairs, judged, right_pairs, similarity (mean).
select
    pairs.noun,
    count(*) as pairs,
    count(truth.correct) as judged,
    count(*) filter (truth.correct) as right_pairs,
    avg(pairs.clip_similarity) as similarity
from mined_pairs as pairs
left join pair_truth as truth using (pair_id)
where pairs.kept
group by pairs.noun
order by pairs desc, pairs.noun
