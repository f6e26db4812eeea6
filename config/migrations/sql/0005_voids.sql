-- Cancels on their way to the signer.
SELECT 1;
