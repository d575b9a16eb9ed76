-- Nouns by kept pairs, then mentions; stop nouns left out.
-- Grain: one row for each noun. Columns: noun, mentions, kept_pairs.
select
    noun,
    sum(mentions)::bigint as mentions,
    sum(kept_pairs)::bigint as kept_pairs
from noun_frequency
where kept_mentions > 0 or kept_pairs > 0
group by noun
order by kept_pairs desc, mentions desc, noun
