-- Proof of each deposit: headers and inclusion.
SELECT 1;
