import { secret, setting, text } from '../config/setting.ts';
import type { Rule } from '../http/retry.ts';
import { ABOUT_AUTHORITY, ABOUT_GRAPH, AUTHORITY, directoryUsers, GRAPH, graph, graphErrors } from './_graph.ts';
import { CONFIGURATION_SECRETS, details } from './_intune.ts';
import { defineCollector } from './collector.ts';

const USER_FIELDS = [
  'id',
  'displayName',
  'givenName',
  'surname',
  'userPrincipalName',
  'mail',
  'businessPhones',
  'mobilePhone',
  'officeLocation',
  'preferredLanguage',
  'jobTitle',
  'accountEnabled',
  'createdDateTime',
  'department',
  'companyName',
];

/** Hardware is told only when it is selected, of one device at a time, and in beta. */
const DETAIL_FIELDS = [
  'id',
  'deviceName',
  'operatingSystem',
  'osVersion',
  'isEncrypted',
  'complianceState',
  'lastSyncDateTime',
  'userPrincipalName',
  'hardwareInformation',
  'windowsActiveMalwareCount',
];

/** Attack simulation comes with Defender for Office 365 Plan 2. */
const simulation: readonly Rule[] = [
  { status: 403, body: /Authorization_RequestDenied|scope|permission|privilege/i, as: 'denied' },
  { status: [403, 404], as: 'unlicensed', because: 'attack simulation needs Defender for Office 365 Plan 2' },
];

export default defineCollector({
  name: 'intune',
  title: 'Microsoft Intune',
  docs: 'https://learn.microsoft.com/graph/api/resources/intune-graph-overview',
  env: {
    INTUNE_TENANT_ID: setting('Directory (tenant) ID of the app registration'),
    INTUNE_CLIENT_ID: setting('Application (client) ID of the app registration'),
    INTUNE_CLIENT_SECRET: secret('Client secret of the app registration'),
    INTUNE_BASE_URL: setting(ABOUT_GRAPH, text(GRAPH)),
    INTUNE_AUTHORITY: setting(ABOUT_AUTHORITY, text(AUTHORITY)),
  },
  http: (settings) =>
    graph({
      tenant: settings.INTUNE_TENANT_ID,
      client: settings.INTUNE_CLIENT_ID,
      secret: settings.INTUNE_CLIENT_SECRET,
      url: settings.INTUNE_BASE_URL,
      authority: settings.INTUNE_AUTHORITY,
    }),
  errors: graphErrors,
  resources: {
    managed_devices: {
      about: 'Devices that Intune manages',
      path: '/v1.0/deviceManagement/managedDevices',
      query: { $top: 1000 },
      records: 'value',
      id: 'id',
      needs: 'DeviceManagementManagedDevices.Read.All',
      secrets: ['activationLockBypassCode'],
    },
    managed_device_detail: {
      about: 'Hardware, encryption and malware of each device',
      each: 'managed_devices',
      path: '/beta/$batch',
      method: 'POST',
      id: 'id',
      needs: 'DeviceManagementManagedDevices.Read.All',
      secrets: ['activationLockBypassCode'],
      collect: (context) =>
        details(context, { version: 'beta', under: '/deviceManagement/managedDevices', select: DETAIL_FIELDS }),
    },
    users: {
      about: 'Users of the directory',
      path: '/v1.0/users',
      id: 'id',
      needs: 'User.Read.All',
      resumes: true,
      collect: (context) => directoryUsers(context, USER_FIELDS),
    },
    device_configurations: {
      about: 'Configuration profiles, without what they keep secret',
      path: '/v1.0/deviceManagement/deviceConfigurations',
      query: { $top: 100 },
      records: 'value',
      id: 'id',
      needs: 'DeviceManagementConfiguration.Read.All',
      secrets: CONFIGURATION_SECRETS,
    },
    device_configuration_detail: {
      about: 'Each configuration profile as it is when read alone',
      each: 'device_configurations',
      path: '/v1.0/$batch',
      method: 'POST',
      id: 'id',
      needs: 'DeviceManagementConfiguration.Read.All',
      secrets: CONFIGURATION_SECRETS,
      collect: (context) => details(context, { version: 'v1.0', under: '/deviceManagement/deviceConfigurations' }),
    },
    device_compliance_policies: {
      about: 'Policies that say when a device is compliant',
      path: '/v1.0/deviceManagement/deviceCompliancePolicies',
      query: { $top: 100 },
      records: 'value',
      id: 'id',
      needs: 'DeviceManagementConfiguration.Read.All',
    },
    attack_simulations: {
      about: 'Phishing simulations',
      path: '/v1.0/security/attackSimulation/simulations',
      query: { $top: 100 },
      records: 'value',
      id: 'id',
      needs: 'AttackSimulation.Read.All',
      errors: simulation,
    },
    attack_simulation_users: {
      about: 'What each target of a simulation did, and its training',
      each: 'attack_simulations',
      path: '/v1.0/security/attackSimulation/simulations/{id}/report/simulationUsers',
      query: { $top: 100 },
      records: 'value',
      keep: { _simulation_id: 'id' },
      id: ['_simulation_id', 'simulationUser.userId'],
      needs: 'AttackSimulation.Read.All',
      // The simulation was removed since it was listed.
      errors: [{ status: 404, as: 'empty' }],
    },
  },
});
