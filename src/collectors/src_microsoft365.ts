import { integer, list, seconds, secret, setting, text } from '../config/setting.ts';
import { limit } from '../http/pace.ts';
import { ABOUT_AUTHORITY, ABOUT_GRAPH, AUTHORITY, GRAPH, graph, graphErrors, THROTTLED } from './_graph.ts';
import { areLabels, deviceApps, deviceFields, licensedUsers } from './_microsoft365.ts';
import { defineCollector } from './collector.ts';

const DEVICE_FIELDS = [
  'id',
  'deviceName',
  'userId',
  'userDisplayName',
  'emailAddress',
  'operatingSystem',
  'osVersion',
  'lastSyncDateTime',
];

export default defineCollector({
  name: 'microsoft365',
  title: 'Microsoft 365',
  docs: 'https://learn.microsoft.com/graph/api/overview',
  env: {
    MICROSOFT365_TENANT_ID: setting('Directory (tenant) ID of the app registration'),
    MICROSOFT365_CLIENT_ID: setting('Application (client) ID of the app registration'),
    MICROSOFT365_CLIENT_SECRET: secret('Client secret of the app registration'),
    MICROSOFT365_LICENSES: setting(
      'Labels of licences in _licenses, as skuId=label separated by commas; other SKUs have their own name',
      list().refine(areLabels, 'must be skuId=label, separated by commas').default([]),
    ),
    MICROSOFT365_DEVICE_FIELDS: setting(
      'Fields of managed devices to read, and to keep in the _device of each app',
      list().default(DEVICE_FIELDS),
    ),
    MICROSOFT365_URL_SLICING: setting(
      'Devices whose apps are asked for at a time, twenty in a call',
      integer(60, 1, 1000),
    ),
    MICROSOFT365_TOOMANYREQUEST_SLEEP: setting(
      'Seconds to wait when Graph throttles without saying for how long',
      integer(THROTTLED, 0, 3600),
    ),
    MICROSOFT365_SLEEP: setting('Seconds between the beginnings of two requests', seconds()),
    MICROSOFT365_TIMEOUT: setting('Seconds to wait for an answer to begin', integer(60, 1, 3600)),
    MICROSOFT365_BASE_URL: setting(ABOUT_GRAPH, text(GRAPH)),
    MICROSOFT365_AUTHORITY: setting(ABOUT_AUTHORITY, text(AUTHORITY)),
  },
  aliases: {
    MS_TENANT_ID: 'MICROSOFT365_TENANT_ID',
    MS_CLIENT_ID: 'MICROSOFT365_CLIENT_ID',
    MS_CLIENT_SECRET: 'MICROSOFT365_CLIENT_SECRET',
  },
  http(settings) {
    const options = graph({
      tenant: settings.MICROSOFT365_TENANT_ID,
      client: settings.MICROSOFT365_CLIENT_ID,
      secret: settings.MICROSOFT365_CLIENT_SECRET,
      url: settings.MICROSOFT365_BASE_URL,
      authority: settings.MICROSOFT365_AUTHORITY,
    });
    const { MICROSOFT365_SLEEP: sleep } = settings;
    return {
      ...options,
      errors: [{ status: 429, as: 'throttled', wait: settings.MICROSOFT365_TOOMANYREQUEST_SLEEP }],
      timeout: settings.MICROSOFT365_TIMEOUT,
      pace: sleep === 0 ? [] : limit(1, sleep, options.baseUrl),
    };
  },
  errors: graphErrors,
  resources: {
    users: {
      about: 'Users of the directory, with the labels of their licences',
      path: '/v1.0/users',
      adds: { _licenses: 'labels of the licences that are assigned' },
      id: 'id',
      needs: 'User.Read.All, and Organization.Read.All for the names of licences',
      resumes: true,
      collect: licensedUsers,
    },
    subscribed_skus: {
      about: 'Licences that the tenant has, and how many are used',
      path: '/v1.0/subscribedSkus',
      records: 'value',
      id: 'skuId',
      needs: 'Organization.Read.All',
    },
    managed_devices: {
      about: 'Devices that Intune manages, with the chosen fields',
      path: '/v1.0/deviceManagement/managedDevices',
      query: ({ MICROSOFT365_DEVICE_FIELDS }) => ({
        $top: 1000,
        $select: deviceFields(MICROSOFT365_DEVICE_FIELDS).join(','),
      }),
      records: 'value',
      id: 'id',
      needs: 'DeviceManagementManagedDevices.Read.All',
      secrets: ['activationLockBypassCode'],
    },
    device_apps: {
      about: 'Apps found on each managed device, one record a device and app',
      each: 'managed_devices',
      path: '/beta/$batch',
      method: 'POST',
      adds: { _device: 'the chosen fields of the device' },
      id: ['_device.id', 'id'],
      needs: 'DeviceManagementManagedDevices.Read.All',
      collect: deviceApps,
    },
  },
});
