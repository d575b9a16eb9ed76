-- The distribution of training pairs over nouns: few nouns with many pairs, many with few.
-- Grain: one row for each (dataset, band of kept pairs a noun). Columns: dataset, pairs_a_noun,
--   nouns, kept_pairs, share_of_pairs, examples (the most frequent of the band).
with bands as (
    select
        dataset,
        noun,
        kept_pairs,
        case
            when kept_pairs = 0 then 0
            when kept_pairs = 1 then 1
            when kept_pairs < 5 then 2
            when kept_pairs < 20 then 3
            when kept_pairs < 100 then 4
            when kept_pairs < 1000 then 5
            else 6
        end as band
    from noun_frequency
)

select
    dataset,
    ['0', '1', '2-4', '5-19', '20-99', '100-999', '1000+'][band + 1] as pairs_a_noun,
    count(*) as nouns,
    sum(kept_pairs)::bigint as kept_pairs,
    round(
        sum(kept_pairs) / nullif(sum(sum(kept_pairs)) over (partition by dataset), 0), 4
    ) as share_of_pairs,
    list(noun order by kept_pairs desc, noun)[1:5] as examples
from bands
group by dataset, band
order by dataset, band desc
