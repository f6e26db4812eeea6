-- Exposure caps, reference rates, credit policy versions.
SELECT 1;
