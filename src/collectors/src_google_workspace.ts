import { baseUrl, integer, secret, setting, text } from '../config/setting.ts';
import { limit } from '../http/pace.ts';
import { cursor } from '../http/paginate.ts';
import { activities, DIRECTORY, delegated, ofCustomer, rules } from './_google_workspace.ts';
import { defineCollector } from './collector.ts';

const log = {
  kind: 'events',
  path: '/admin/reports/v1/activity/users/all/applications',
  id: ['id.time', 'id.uniqueQualifier'],
  needs: 'scope admin.reports.audit.readonly',
} as const;

export default defineCollector({
  name: 'google_workspace',
  title: 'Google Workspace',
  docs: 'https://developers.google.com/workspace/admin/directory/reference/rest',
  env: {
    GOOGLE_WORKSPACE_SERVICE_ACCOUNT_JSON_PATH: secret(
      'Path of the JSON key of a service account with domain-wide delegation, or that JSON itself',
    ),
    GOOGLE_WORKSPACE_ADMIN_EMAIL: setting('Administrator who is acted for, such as reader@acme.example'),
    GOOGLE_WORKSPACE_CUSTOMER_ID: setting('Customer id such as C0xxxxxxx, for resellers', text('my_customer')),
    GOOGLE_WORKSPACE_LOG_DAYS: setting('Days of logs that the first run reads; Google keeps 180', integer(179, 1, 179)),
    GOOGLE_WORKSPACE_BASE_URL: setting('Base URL of the API', text('https://admin.googleapis.com')),
  },
  http: (settings) => ({
    baseUrl: baseUrl(settings.GOOGLE_WORKSPACE_BASE_URL),
    auth: delegated(settings.GOOGLE_WORKSPACE_SERVICE_ACCOUNT_JSON_PATH, settings.GOOGLE_WORKSPACE_ADMIN_EMAIL),
    paginate: cursor('nextPageToken', { as: 'pageToken' }),
    pace: limit(2400, 60),
    concurrency: 5,
  }),
  errors: rules,
  resources: {
    users: {
      about: 'Accounts with all their fields, suspended ones too',
      path: `${DIRECTORY}/users`,
      query: (settings) => ({
        customer: settings.GOOGLE_WORKSPACE_CUSTOMER_ID,
        maxResults: 500,
        projection: 'full',
      }),
      records: 'users',
      absent: 'empty',
      id: 'id',
      needs: 'scope admin.directory.user.readonly',
      secrets: ['password', 'hashFunction'],
    },
    groups: {
      about: 'Groups',
      path: `${DIRECTORY}/groups`,
      query: (settings) => ({ customer: settings.GOOGLE_WORKSPACE_CUSTOMER_ID, maxResults: 200 }),
      records: 'groups',
      absent: 'empty',
      id: 'id',
      needs: 'scope admin.directory.group.readonly',
    },
    group_members: {
      about: 'Direct members of each group',
      each: 'groups',
      path: `${DIRECTORY}/groups/{id}/members`,
      query: { maxResults: 200 },
      records: 'members',
      absent: 'empty',
      keep: { _group_id: 'id' },
      id: ['_group_id', 'id'],
      needs: 'scope admin.directory.group.member.readonly',
      // The group was deleted since it was listed.
      errors: [{ status: 404, as: 'empty' }],
    },
    roles: {
      about: 'Administrator roles with their privileges',
      path: `${DIRECTORY}/customer/{customer}/roles`,
      id: 'roleId',
      needs: 'scope admin.directory.rolemanagement.readonly',
      resumes: true,
      collect: ofCustomer('roles', 'items', { maxResults: 100 }),
    },
    role_assignments: {
      about: 'Who has which administrator role',
      path: `${DIRECTORY}/customer/{customer}/roleassignments`,
      id: 'roleAssignmentId',
      needs: 'scope admin.directory.rolemanagement.readonly',
      resumes: true,
      collect: ofCustomer('roleassignments', 'items', { maxResults: 200 }),
    },
    org_units: {
      about: 'Organizational units of every level, but for the root',
      path: `${DIRECTORY}/customer/{customer}/orgunits`,
      id: 'orgUnitId',
      needs: 'scope admin.directory.orgunit.readonly',
      resumes: true,
      collect: ofCustomer('orgunits', 'organizationUnits', { type: 'all' }),
    },
    mobile_devices: {
      about: 'Mobile devices under management',
      path: `${DIRECTORY}/customer/{customer}/devices/mobile`,
      id: 'resourceId',
      needs: 'scope admin.directory.device.mobile.readonly',
      resumes: true,
      collect: ofCustomer('devices/mobile', 'mobiledevices', { maxResults: 100, projection: 'FULL' }),
    },
    chromeos_devices: {
      about: 'ChromeOS devices',
      path: `${DIRECTORY}/customer/{customer}/devices/chromeos`,
      id: 'deviceId',
      needs: 'scope admin.directory.device.chromeos.readonly',
      resumes: true,
      collect: ofCustomer('devices/chromeos', 'chromeosdevices', { maxResults: 300, projection: 'FULL' }),
    },
    login_activities: { about: 'Sign-ins, and what was suspicious about them', ...log, collect: activities('login') },
    admin_activities: { about: 'What administrators changed', ...log, collect: activities('admin') },
    token_activities: {
      about: 'Access that users gave to applications, and its use',
      ...log,
      collect: activities('token'),
    },
  },
});
