-- The settings of a benchmark's learning curves.
-- Grain: one row for each curve; $1 is the benchmark. Columns: config (JSON).
select config from published
where stage = 'curves' and benchmark = $1
