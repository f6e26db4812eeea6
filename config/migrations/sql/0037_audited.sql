-- What people decide about tables that came after the audit log (0030_audit.sql).
CREATE TRIGGER audited AFTER INSERT ON gateway.sweep_policies
    FOR EACH ROW EXECUTE FUNCTION gateway.audit_policy('sweep');
-- The rest of a sweep is the house's own work, and its history tells of it.
CREATE TRIGGER audited AFTER UPDATE OF requested_by ON gateway.sweeps
    FOR EACH ROW WHEN (NEW.requested_by IS NOT NULL)
    EXECUTE FUNCTION gateway.audit_change('sweep', 'id', '{look_at}');
CREATE TRIGGER audited AFTER UPDATE OF explanation ON chain.reconciliation_breaks
    FOR EACH ROW WHEN (NEW.explanation IS NOT NULL)
    EXECUTE FUNCTION gateway.audit_change('reconciliation_break', 'id');
