-- Nothing yet: the place of a part that is being built.
SELECT 1;
