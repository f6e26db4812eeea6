-- Breakers: what is stopped, since when, by whom; who reopens it.
SELECT 1;
