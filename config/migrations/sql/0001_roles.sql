-- One database role per process, with least privilege (HOUSE 3, X04). Passwords are set by
-- `cage db migrate` from secret files; without one a role can log in only where pg_hba trusts it.
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY[
        'gateway_api', 'gateway_payouts', 'gateway_webhooks', 'watchers', 'scheduler'
    ] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I LOGIN NOINHERIT', role_name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- roles are global to the server: another database of it made them
        END;
    END LOOP;
END
$$;

CREATE SCHEMA ledger;
CREATE SCHEMA chain;
CREATE SCHEMA gateway;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA config, ledger, chain, gateway
    TO gateway_api, gateway_payouts, gateway_webhooks, watchers, scheduler;
GRANT SELECT ON ALL TABLES IN SCHEMA config
    TO gateway_api, gateway_payouts, gateway_webhooks, watchers, scheduler;

-- What row-level security lets a unit of work see: one brand, or '*' for all. An unset value sees
-- nothing, so that a forgotten SET fails closed.
CREATE FUNCTION config.sees_brand(row_brand text) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(current_setting('cage.brand', true), '') IN ('*', row_brand);
