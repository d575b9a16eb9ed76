-- Published results next to ours on the same benchmark and protocol.
-- Grain: one row for each (published row, arm of ours); also published rows without one of ours.
-- Columns: benchmark, metric (the published one; miou if its source does not say over which
--   classes), method, backbone, trained_on, setting, published, source, arm (of ours), ours, low,
--   high (its interval), same_protocol, difference (ours minus published, where the protocol is
--   the same). In 0..1. Ours count only on all images of the benchmark, none rejected, under the
--   class names this project ships for it, with the published inference (soft masks summed, the 14
--   templates, tight crops: `mean`, or `box` where theirs kept the background); the storybook has
--   nothing published and never appears.
with shipped as (
    select
        benchmark,
        sha256(string_agg(class_name, chr(10) order by class_id))[1:16] as vocabulary_digest
    from (
        select distinct
            benchmark,
            class_id,
            class_name
        from vocabularies
    ) as names
    group by benchmark
),

ours as (
    select
        scores.benchmark,
        scores.arm,
        scores.metric,
        scores.images,
        scores.oracle,
        scores.region,
        scores.value,
        scores.low,
        scores.high
    from scores
    inner join shipped using (benchmark, vocabulary_digest)
    where
        scores.image_limit is null
        and scores.benchmark <> 'storybook'
        and scores.inference = 'sum'
        and scores.templates = 'vild'
        and scores.expand_ratio = 1
        and scores.system = 'ovseg'
        and not regexp_matches(
            scores.settings,
            '"(embedder|own|period|pixels|prompting|proposals|relations|retrieval_weight)"'
        )
        and not regexp_matches(
            scores.settings,
            '"(seen_weight|segmentor|segments|synonyms|vocabulary|whole_places)"'
        )
)

select
    published.benchmark,
    published.metric,
    published.method,
    published.backbone,
    published.trained_on,
    published.setting,
    published.value as published,
    published.source,
    ours.arm,
    round(ours.value, 4) as ours,
    round(ours.low, 4) as low,
    round(ours.high, 4) as high,
    published.denominator is not null as same_protocol,
    case
        when published.denominator is not null
            then round(ours.value - published.value, 4)
    end as difference
from published_results as published
left join ours
    on
        published.benchmark = ours.benchmark
        and list_contains(published.images, ours.images)
        and published.oracle = ours.oracle
        and published.region = ours.region
        and ours.metric
        = case published.metric when 'miou' then 'miou_union' else published.metric end
order by published.benchmark, published.metric, published.value desc, published.method, ours.arm
