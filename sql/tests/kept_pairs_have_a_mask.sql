-- A kept pair can be trained on: it has a mask of the image's size, a box inside, a noun.
-- Rows: kept pairs without one of them.
-- Severity: error.
select
    pair_id,
    noun,
    mask_size,
    bbox_xyxy
from pairs
where
    kept
    and not coalesce(
        octet_length(mask_counts) > 0
        and mask_size = [height, width]
        and bbox_xyxy[1] >= 0
        and bbox_xyxy[2] >= 0
        and bbox_xyxy[1] < bbox_xyxy[3]
        and bbox_xyxy[2] < bbox_xyxy[4]
        and bbox_xyxy[3] <= width
        and bbox_xyxy[4] <= height
        and trim(noun) <> '',
        false
    )
