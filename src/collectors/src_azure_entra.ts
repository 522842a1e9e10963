import { integer, secret, setting, text } from '../config/setting.ts';
import { logged } from './_azure_entra.ts';
import { ABOUT_AUTHORITY, ABOUT_GRAPH, AUTHORITY, directoryUsers, GRAPH, graph, graphErrors } from './_graph.ts';
import { defineCollector } from './collector.ts';

const USER_FIELDS = [
  'accountEnabled', 'ageGroup', 'assignedLicenses', 'assignedPlans', 'businessPhones', 'city', 'companyName',
  'country', 'createdDateTime', 'creationType', 'department', 'displayName', 'employeeHireDate', 'employeeId',
  'employeeOrgData', 'employeeType', 'externalUserState', 'externalUserStateChangeDateTime', 'givenName', 'id',
  'identities', 'isResourceAccount', 'jobTitle', 'lastPasswordChangeDateTime', 'licenseAssignmentStates', 'mail',
  'mailNickname', 'mobilePhone', 'officeLocation', 'onPremisesDistinguishedName', 'onPremisesDomainName',
  'onPremisesExtensionAttributes', 'onPremisesImmutableId', 'onPremisesLastSyncDateTime',
  'onPremisesSamAccountName', 'onPremisesSyncEnabled', 'otherMails', 'passwordPolicies', 'postalCode',
  'preferredLanguage', 'proxyAddresses', 'securityIdentifier', 'signInSessionsValidFromDateTime', 'state', 'surname',
  'usageLocation', 'userPrincipalName', 'userType',
]; // biome-ignore format: one a line, the 48 names would be a third of the room

interface Settings {
  readonly AZURE_SIGNIN_DAYS: number;
  readonly AZURE_LOG_DELAY: number;
}

const spanOf = ({ AZURE_SIGNIN_DAYS, AZURE_LOG_DELAY }: Settings) => ({
  days: AZURE_SIGNIN_DAYS,
  minutes: AZURE_LOG_DELAY,
});

export default defineCollector({
  name: 'azure_entra',
  title: 'Microsoft Entra ID',
  docs: 'https://learn.microsoft.com/graph/api/resources/azure-ad-overview',
  env: {
    AZURE_TENANT_ID: setting('Directory (tenant) ID of the app registration'),
    AZURE_CLIENT_ID: setting('Application (client) ID of the app registration'),
    AZURE_CLIENT_SECRET: secret('Client secret of the app registration'),
    AZURE_SIGNIN_DAYS: setting('Days of sign-ins and audit logs that the first run reads', integer(30, 1, 365)),
    AZURE_LOG_DELAY: setting(
      'Minutes that sign-ins and audit logs are read behind now, because some come late',
      integer(30, 0, 1440),
    ),
    AZURE_GRAPH_URL: setting(ABOUT_GRAPH, text(GRAPH)),
    AZURE_AUTHORITY_HOST: setting(ABOUT_AUTHORITY, text(AUTHORITY)),
  },
  http: (settings) =>
    graph({
      tenant: settings.AZURE_TENANT_ID,
      client: settings.AZURE_CLIENT_ID,
      secret: settings.AZURE_CLIENT_SECRET,
      url: settings.AZURE_GRAPH_URL,
      authority: settings.AZURE_AUTHORITY_HOST,
    }),
  errors: graphErrors,
  resources: {
    users: {
      about: 'Users of the directory, guests and synchronised ones included',
      path: '/v1.0/users',
      id: 'id',
      needs: 'User.Read.All',
      secrets: ['passwordProfile'],
      resumes: true,
      collect: (context) => directoryUsers(context, USER_FIELDS),
    },
    signins: {
      about: 'Interactive sign-ins and how they ended; Entra ID P1 keeps them 30 days',
      kind: 'events',
      path: '/v1.0/auditLogs/signIns',
      id: 'id',
      needs: 'AuditLog.Read.All and Directory.Read.All',
      collect: (context) =>
        logged(context, { path: '/v1.0/auditLogs/signIns', field: 'createdDateTime' }, spanOf(context.settings)),
    },
    audit_logs: {
      about: 'Changes in the directory: who did what to which object',
      kind: 'events',
      path: '/v1.0/auditLogs/directoryAudits',
      id: 'id',
      needs: 'AuditLog.Read.All',
      collect: (context) =>
        logged(
          context,
          { path: '/v1.0/auditLogs/directoryAudits', field: 'activityDateTime' },
          spanOf(context.settings),
        ),
    },
  },
});
