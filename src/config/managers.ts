import { awsShape } from './aws.ts';
import { optional, secret, setting, text } from './setting.ts';

/** Where secrets are looked up that are set by reference, and as whom. Read only when a reference names that manager. */
export const managersShape = {
  ...awsShape,
  SECRETS_AWS_ENDPOINT: setting('Base URL of AWS Secrets Manager; unset = AWS', optional()),
  SECRETS_AZURE_TENANT_ID: setting('Directory of the app that reads Azure Key Vault', optional()),
  SECRETS_AZURE_CLIENT_ID: setting('Client id of that app', optional()),
  SECRETS_AZURE_CLIENT_SECRET: secret('Client secret of that app', optional()),
  SECRETS_AZURE_AUTHORITY: setting('Where its tokens come from', text('https://login.microsoftonline.com')),
  SECRETS_AZURE_URL: setting('Base URL of the vault; unset = https://<vault>.vault.azure.net', optional()),
  SECRETS_GCP_KEY: secret('JSON key of the service account that reads GCP Secret Manager', optional()),
  SECRETS_GCP_URL: setting('Base URL of GCP Secret Manager', text('https://secretmanager.googleapis.com')),
  VAULT_ADDR: setting('Base URL of HashiCorp Vault or OpenBao', optional()),
  VAULT_TOKEN: secret('Token for Vault', optional()),
  VAULT_NAMESPACE: setting('Namespace in Vault', optional()),
} as const;

/** A secret that is set by where it is: manager, path and, behind #, the field. */
export const REFERENCE = /^(aws-sm|azure-kv|gcp-sm|vault):\/\/([^#\s]+)(?:#(\S+))?$/;
