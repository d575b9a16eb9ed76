-- The number of images a benchmark was scored on; null if it was not.
-- Grain: one row; $1 is the benchmark. Columns: images.
select max(images) as images from benchmark_runs
where benchmark = $1
