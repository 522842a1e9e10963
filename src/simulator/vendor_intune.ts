import {
  around,
  batch,
  CLIENT,
  countsUsers,
  expired,
  graphError,
  graphUser,
  graphVendor,
  type PartReply,
  pages,
  TENANT,
} from './graph.ts';
import { digits, mix, moment, person, pick, text, uuid } from './invent.ts';
import type { Ask, Records, Request, Route } from './paging.ts';
import { defineVendor } from './vendor.ts';

const SECRET = 'canary-intune~9Z8yX7wV6uT5sR4qP3oN2m';

const devicesOf = (scale: number) => Math.max(4, Math.ceil(scale / 2));
const profilesOf = (scale: number) => Math.max(4, Math.ceil(scale / 2));
const simulationsOf = (scale: number) => Math.max(4, Math.ceil(scale / 10));
const deviceId = (index: number) => uuid(index, 81);
const profileId = (index: number) => uuid(index, 82);
const simulationId = (index: number) => uuid(index, 83);

function device(index: number): string {
  const { first, last, mail } = person(index);
  const record = {
    id: deviceId(index),
    deviceName: `${first}’s "laptop" ${index}`,
    userDisplayName: `${first} ${last}`,
    emailAddress: mail,
    operatingSystem: pick(['Windows', 'macOS', 'iOS', 'Android'], index, 84),
    complianceState: pick(['compliant', 'noncompliant', 'inGracePeriod'], index, 85),
    totalStorageSpaceInBytes: digits(String(9_007_199_254_740_993n + BigInt(index))),
    lastSyncDateTime: moment(index, 86),
    deviceActionResults: [],
  };
  return text(record, index);
}

function detail(index: number): string {
  const record = {
    '@odata.context': 'https://graph.microsoft.com/beta/$metadata#deviceManagement/managedDevices/$entity',
    id: deviceId(index),
    isEncrypted: index % 3 > 0,
    windowsActiveMalwareCount: mix(index, 87) % 3,
    hardwareInformation: {
      osBuildNumber: '22631.3593',
      totalStorageSpace: digits(String(9_223_372_036_854_775_000n + BigInt(index))),
      deviceGuardVirtualizationBasedSecurityState: pick(['running', 'notConfigured'], index, 88),
    },
  };
  return text(record, index);
}

/** A profile; its subtype has fields of its own. */
function profile(index: number): string {
  const own =
    index % 2 === 0
      ? { '@odata.type': '#microsoft.graph.windows10GeneralConfiguration', passwordRequired: true }
      : { '@odata.type': '#microsoft.graph.iosGeneralDeviceConfiguration', passcodeMinimumLength: 6 };
  const record = {
    ...own,
    id: profileId(index),
    displayName: pick(['Baseline – Zürich', 'Wi-Fi "Gäste"', '標準構成', 'VPN\\Split'], index, 89),
    description: `line one\nline two of ${index}`,
    createdDateTime: moment(index, 90),
    version: index % 12,
  };
  return text(record, index);
}

function policy(index: number): string {
  const record = {
    '@odata.type': '#microsoft.graph.windows10CompliancePolicy',
    id: uuid(index, 91),
    displayName: `Conformité ${index}`,
    bitLockerEnabled: index % 2 === 0,
    passwordRequired: true,
    lastModifiedDateTime: moment(index, 92),
  };
  return text(record, index);
}

function simulation(index: number): string {
  const record = {
    id: simulationId(index),
    displayName: `Übung ${index}: "Paket"`,
    attackTechnique: pick(['credentialHarvesting', 'linkInAttachment', 'driveByUrl'], index, 93),
    status: pick(['succeeded', 'running', 'scheduled'], index, 94),
    launchDateTime: moment(index, 95),
  };
  return text(record, index);
}

function target(parent: number, index: number): string {
  const { first, last, mail } = person(index);
  const record = {
    isCompromised: index % 5 === 0,
    assignedTrainingsCount: index % 3,
    simulationUser: { userId: uuid(index, 61), displayName: `${first} ${last}`, email: mail },
    simulationEvents: index % 5 === 0 ? [{ eventName: 'SuccessfullyDeliveredEmail', ipAddress: '' }] : [],
    trainingEvents: [],
  };
  return text(record, parent + index);
}

function listed(resource: string, path: string, max: number, records: (scale: number) => Records): Route {
  return { resource, path, paging: pages(max), records, wrap: around, expired };
}

/** A record alone, where `at` knows its id. */
function alone(id: (index: number) => string, count: (scale: number) => number, at: (index: number) => string) {
  const find = (asked: string, scale: number) => {
    const index = Number.parseInt(asked.slice(-12), 16);
    return index < count(scale) && id(index) === asked ? index : undefined;
  };
  return {
    part({ session, fault }: Ask, url: string): PartReply {
      const index = find(/\/([^/?]+)(?:\?|$)/.exec(url)?.[1] ?? '', session.scale);
      if (index === undefined) return { status: 404, body: graphError(404, 'no such thing') };
      // There is no list to be emptied or cut: the record itself is missing.
      return { status: 200, body: fault?.name === 'empty-list' || fault?.name === 'short-page' ? '{}' : at(index) };
    },
    records: (scale: number, { params }: Request): Records => {
      const index = find(params.id ?? '', scale);
      return index === undefined ? { count: 0, at: () => '' } : { count: 1, at: () => at(index) };
    },
    *parents(scale: number): Generator<{ id: string }> {
      for (let index = 0; index < count(scale); index += 1) yield { id: id(index) };
    },
  };
}

const DETAIL = /^\/deviceManagement\/managedDevices\/[^/?]+\?\$select=[A-Za-z,]*hardwareInformation[A-Za-z,]*$/;
const PROFILE = /^\/deviceManagement\/deviceConfigurations\/[^/?]+$/;
const { part: devicePart, ...devices } = alone(deviceId, devicesOf, detail);
const { part: profilePart, ...profiles } = alone(profileId, profilesOf, profile);

function targetsOf(scale: number, { params }: Request): Records | undefined {
  const index = Number.parseInt((params.id ?? '').slice(-12), 16);
  if (index >= simulationsOf(scale) || simulationId(index) !== params.id) return undefined;
  return { count: index === 1 ? 0 : 20 + (mix(index, 96) % 30), at: (nth) => target(index, nth) };
}

function* simulations(scale: number): Generator<{ id: string }> {
  for (let index = 0; index < simulationsOf(scale); index += 1) yield { id: simulationId(index) };
}

const { token, ...common } = graphVendor(SECRET);
const MANAGEMENT = '/v1.0/deviceManagement';
const SIMULATIONS = '/v1.0/security/attackSimulation/simulations';

export default defineVendor({
  ...common,
  name: 'intune',
  env: (origin) => ({
    INTUNE_BASE_URL: `${origin}/v1.0`,
    INTUNE_AUTHORITY: origin,
    INTUNE_TENANT_ID: TENANT,
    INTUNE_CLIENT_ID: CLIENT,
    INTUNE_CLIENT_SECRET: SECRET,
  }),
  routes: [
    token,
    listed('managed_devices', `${MANAGEMENT}/managedDevices`, 1000, (scale) => ({
      count: devicesOf(scale),
      at: device,
    })),
    {
      path: '/beta/$batch',
      method: 'POST',
      resource: 'managed_device_detail',
      paging: batch(DETAIL, devicePart),
      ...devices,
    },
    {
      ...listed('users', '/v1.0/users', 999, (scale) => ({
        count: scale,
        at: (index) => text(graphUser(index), index),
      })),
      total: true,
      when: countsUsers,
    },
    listed('device_configurations', `${MANAGEMENT}/deviceConfigurations`, 1000, (scale) => ({
      count: profilesOf(scale),
      at: profile,
    })),
    {
      path: '/v1.0/$batch',
      method: 'POST',
      resource: 'device_configuration_detail',
      paging: batch(PROFILE, profilePart),
      ...profiles,
    },
    listed('device_compliance_policies', `${MANAGEMENT}/deviceCompliancePolicies`, 1000, (scale) => ({
      count: Math.ceil(scale / 3),
      at: policy,
    })),
    listed('attack_simulations', SIMULATIONS, 100, (scale) => ({ count: simulationsOf(scale), at: simulation })),
    {
      path: `${SIMULATIONS}/{id}/report/simulationUsers`,
      resource: 'attack_simulation_users',
      paging: pages(100),
      records: targetsOf,
      parents: simulations,
      wrap: around,
      expired,
    },
  ],
});
