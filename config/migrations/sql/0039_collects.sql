-- One tx of the gas account takes tokens of many sweeps (docs/adr/0035).
DROP INDEX gateway.sweeps_attempt;
CREATE INDEX sweeps_attempt ON gateway.sweeps (attempt_id);
