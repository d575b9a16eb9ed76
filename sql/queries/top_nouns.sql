-- The nouns that captions name most, with their numbers of pairs.
-- Grain: one row for each (dataset, noun). Columns: dataset, noun, head, mentions, images,
--   kept_pairs, mean_similarity. Stop nouns have mentions and no pairs.
select
    dataset,
    noun,
    head,
    mentions,
    images,
    kept_pairs,
    round(mean_similarity, 4) as mean_similarity
from noun_frequency
order by mentions desc, dataset, noun
