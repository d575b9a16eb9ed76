-- A few kept pairs of each noun, with mask, captions and truth. Images are taken in the order of a
--   hash of their ID: nothing is hand-picked, and nouns share images, so that few are embedded.
-- Grain: one row for each pair; $1 is the list of nouns, $2 the number of pairs of each.
-- Columns: noun, pair_id, image_id, image_path, width, height, mask_size, mask_counts,
--   clip_similarity, clip_margin, proposal_score, area_fraction, mentions, captions, correct,
--   gt_category, noun_category, gt_share.
with chosen as (
    select
        noun,
        pair_id,
        dataset,
        round,
        image_id,
        clip_similarity,
        clip_margin,
        proposal_score,
        area_fraction,
        mentions
    from mined_pairs
    where kept and list_contains($1, noun)
    qualify row_number() over (
        partition by noun order by md5(dataset || image_id), image_id
    ) <= $2
)

select
    chosen.noun,
    chosen.pair_id,
    chosen.image_id,
    pairs.image_path,
    pairs.width,
    pairs.height,
    pairs.mask_size,
    pairs.mask_counts,
    chosen.clip_similarity,
    chosen.clip_margin,
    chosen.proposal_score,
    chosen.area_fraction,
    chosen.mentions,
    images.captions,
    truth.correct,
    truth.gt_category,
    truth.noun_category,
    truth.gt_share
from chosen
inner join pairs on chosen.pair_id = pairs.pair_id and chosen.round = pairs.round
left join images on chosen.dataset = images.dataset and chosen.image_id = images.image_id
left join pair_truth as truth on chosen.pair_id = truth.pair_id
order by chosen.noun, md5(chosen.dataset || chosen.image_id), chosen.image_id
