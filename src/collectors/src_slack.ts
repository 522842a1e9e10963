import { integer, optional, secret, setting, text } from '../config/setting.ts';
import { staticHeaders } from '../http/auth.ts';
import { apiOf, auditLogs, auditOf, members, nextCursor, pacesOf, passes, rules, workspace } from './_slack.ts';
import { defineCollector } from './collector.ts';

const ofTeam = ({ SLACK_TEAM_ID }: { readonly SLACK_TEAM_ID?: string | undefined }) => ({ team_id: SLACK_TEAM_ID });

export default defineCollector({
  name: 'slack',
  title: 'Slack',
  docs: 'https://docs.slack.dev/reference/methods',
  env: {
    SLACK_TOKEN: secret('User token (xoxp-) of an app that an owner installed on the organization'),
    SLACK_TEAM_ID: setting(
      'Workspace whose user groups, apps, users and channels an organization’s token reads',
      optional(),
    ),
    SLACK_URL: setting('Base URL of the Web API; of GovSlack https://slack-gov.com/api', text('https://slack.com/api')),
    SLACK_AUDIT_URL: setting('Base URL of the Audit Logs API, where it does not follow from SLACK_URL', optional()),
    SLACK_LOG_DAYS: setting('Days of audit logs that the first run reads', integer(90, 1)),
  },
  http: ({ SLACK_TOKEN, SLACK_URL, SLACK_AUDIT_URL }) => ({
    baseUrl: apiOf(SLACK_URL),
    others: [auditOf(SLACK_URL, SLACK_AUDIT_URL)],
    auth: staticHeaders({ authorization: `Bearer ${SLACK_TOKEN}` }),
    paginate: nextCursor,
    pace: pacesOf(apiOf(SLACK_URL), auditOf(SLACK_URL, SLACK_AUDIT_URL)),
  }),
  errors: rules,
  resources: {
    users: {
      about: 'Users of the organization, deactivated ones too',
      path: '/admin.users.list',
      id: 'id',
      needs: 'admin.users:read',
      resumes: true,
      collect: (context) =>
        passes(context, {
          path: '/admin.users.list',
          query: { limit: 200, include_deactivated_user_workspaces: true },
          records: 'users',
          each: [{ is_active: true }, { is_active: false }],
        }),
    },
    teams: {
      about: 'Workspaces of the organization',
      path: '/admin.teams.list',
      query: { limit: 100 },
      records: 'teams',
      id: 'id',
      needs: 'admin.teams:read',
    },
    channels: {
      about: 'Channels of the organization, archived ones too; private ones as far as the token’s user manages them',
      path: '/admin.conversations.search',
      // In the default order, by members, channels move while they are read.
      query: { limit: 20, sort: 'created', sort_dir: 'asc' },
      records: 'conversations',
      total: 'total_count',
      id: 'id',
      needs: 'admin.conversations:read',
      secrets: ['channel_email_addresses'],
    },
    channel_members: {
      about: 'Who belongs to which channel, as far as the token’s user may see it',
      each: 'channels',
      path: '/conversations.members',
      adds: { _channel_id: 'the channel’s id' },
      id: ['_channel_id', 'user_id'],
      needs: 'channels:read and groups:read',
      collect: members,
    },
    user_groups: {
      about: 'User groups with their users, disabled ones too',
      path: '/usergroups.list',
      query: (settings) => ({
        include_count: true,
        include_disabled: true,
        include_users: true,
        ...ofTeam(settings),
      }),
      records: 'usergroups',
      paginate: null,
      id: 'id',
      needs: 'usergroups:read',
    },
    apps: {
      about: 'Apps that may be installed, certified ones too',
      path: '/admin.apps.approved.list',
      id: 'app.id',
      needs: 'admin.apps:read',
      resumes: true,
      collect: (context) =>
        passes(context, {
          path: '/admin.apps.approved.list',
          query: { limit: 100, ...ofTeam(context.settings) },
          records: 'approved_apps',
          each: [{ certified: false }, { certified: true }],
        }),
    },
    restricted_apps: {
      about: 'Apps that must not be installed, certified ones too',
      path: '/admin.apps.restricted.list',
      id: 'app.id',
      needs: 'admin.apps:read',
      resumes: true,
      collect: (context) =>
        passes(context, {
          path: '/admin.apps.restricted.list',
          query: { limit: 100, ...ofTeam(context.settings) },
          records: 'restricted_apps',
          each: [{ certified: false }, { certified: true }],
        }),
    },
    workspaces: {
      about: 'The one workspace that the token or SLACK_TEAM_ID names',
      path: '/team.info',
      id: 'id',
      needs: 'team:read',
      collect: (context) => workspace(context, context.settings.SLACK_TEAM_ID),
    },
    workspace_users: {
      about: 'Users of that workspace with their profiles, bots and deactivated ones too',
      path: '/users.list',
      query: (settings) => ({ limit: 200, include_locale: true, ...ofTeam(settings) }),
      records: 'members',
      id: 'id',
      needs: 'users:read and users:read.email',
    },
    workspace_channels: {
      about: 'Channels of that workspace, archived ones too; private ones as far as the token’s user is in them',
      path: '/conversations.list',
      query: (settings) => ({ limit: 200, types: 'public_channel,private_channel', ...ofTeam(settings) }),
      records: 'channels',
      id: 'id',
      needs: 'channels:read and groups:read',
    },
    audit_logs: {
      about: 'What was done in the organization, by whom and from where',
      kind: 'events',
      path: '/audit/v1/logs',
      id: 'id',
      needs: 'auditlogs:read, installed by an owner of the organization',
      collect: (context) => {
        const { SLACK_URL, SLACK_AUDIT_URL, SLACK_LOG_DAYS } = context.settings;
        return auditLogs(context, auditOf(SLACK_URL, SLACK_AUDIT_URL), SLACK_LOG_DAYS);
      },
    },
  },
});
