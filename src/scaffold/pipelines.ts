import { join } from 'node:path';
import { cronOf, type Job, npxOf, quoted, type Schedule, shellOf } from './schedule.ts';
import type { Variable } from './variables.ts';

/** A workflow of GitHub Actions. */
export function github(job: Job): Schedule {
  const all = job.sections.flatMap(({ variables }) => variables);
  const needed = all.filter((variable) => isSet(variable) && variable.value === '' && variable.required);
  return {
    files: [{ path: join(job.folder, '.github', 'workflows', `${job.name}.yml`), text: workflowText(job, all) }],
    next: [
      ...needed.map(
        (variable) => `github: gh ${variable.secret ? 'secret' : 'variable'} set ${repositoryName(variable)}`,
      ),
      'github: commit the workflow, then gh workflow run '.concat(`${job.name}.yml`),
    ],
  };
}

function workflowText(job: Job, all: readonly Variable[]): string {
  return `# cyber-collect, hourly. Credentials are secrets and variables of the repository, set under Settings, "Secrets
# and variables", Actions; what is empty counts as not set.
name: ${job.name}
on:
  schedule:
    - cron: ${quoted(cronOf(job))}
  workflow_dispatch:
permissions: {}
concurrency:
  group: ${job.name}
jobs:
  collect:
    runs-on: ubuntu-latest
    timeout-minutes: 60
    steps:
      - uses: actions/setup-node@v4
        with:
          node-version: "22"
      # What the runner forgets: cursors of events, and what the shrink guard compares with.
      - uses: actions/cache/restore@v4
        with:
          path: .cyber-collect
          key: ${job.name}-\${{ github.run_id }}-\${{ github.run_attempt }}
          restore-keys: ${job.name}-
      - run: ${npxOf(job)} run ${shellOf(job.flags)} --output markdown >> "$GITHUB_STEP_SUMMARY"
        env:
${all.map((variable) => `          ${hash(variable)}${variable.name}: ${referenceOf(variable)}`).join('\n')}
      - uses: actions/cache/save@v4
        if: always()
        with:
          path: .cyber-collect
          key: ${job.name}-\${{ github.run_id }}-\${{ github.run_attempt }}
`;
}

/** Whether a line of it does something: an empty optional secret does no harm, and is what is mostly missed. */
function isSet({ live, secret }: Variable): boolean {
  return live || secret;
}

function hash(variable: Variable): string {
  return isSet(variable) ? '' : '# ';
}

function referenceOf(variable: Variable): string {
  if (variable.live && variable.value !== '') return quoted(variable.value);
  return `\${{ ${variable.secret ? 'secrets' : 'vars'}.${repositoryName(variable)} }}`;
}

/** GitHub keeps names that begin with GITHUB_ to itself. */
function repositoryName({ name }: Variable): string {
  return name.startsWith('GITHUB_') ? `CYBER_COLLECT_${name}` : name;
}

/** A pipeline of GitLab. */
export function gitlab(job: Job): Schedule {
  const all = job.sections.flatMap(({ variables }) => variables);
  const needed = all.filter(({ live, value, required }) => live && value === '' && required);
  return {
    files: [{ path: join(job.folder, '.gitlab-ci.yml'), text: pipelineText(job, all, needed) }],
    next: [
      `gitlab: set ${needed.map(({ name }) => name).join(', ')} under Settings, CI/CD, Variables (masked)`,
      `gitlab: make a pipeline schedule "${cronOf(job)}" under Build, Pipeline schedules`,
    ],
  };
}

function pipelineText(job: Job, all: readonly Variable[], needed: readonly Variable[]): string {
  return `# cyber-collect, hourly: make a pipeline schedule "${cronOf(job)}" under Build, "Pipeline schedules".
# Credentials are masked variables, set under Settings, CI/CD, Variables:
${needed.map(({ name, about, secret }) => `#   ${name}: ${about}${secret ? ' (secret: masked)' : ''}`).join('\n')}
collect:
  image: node:22-slim
  rules:
    - if: $CI_PIPELINE_SOURCE == "schedule"
  resource_group: ${job.name}
  interruptible: false
  timeout: 60 minutes
  retry:
    max: 1
    # Incomplete, a store that is down, the deadline: another attempt goes on where this one stopped.
    exit_codes: [3, 6, 124]
  variables:
${all
  .filter(({ live, value }) => live && value !== '')
  .map(({ name, value }) => `    ${name}: ${quoted(value)}`)
  .join('\n')}
  script:
    - ${npxOf(job)} run ${shellOf(job.flags)} --output markdown > summary.md
  after_script:
    - cat summary.md
  cache:
    key: ${job.name}
    when: always
    paths: [.cyber-collect]
  artifacts:
    when: always
    paths: [summary.md]
`;
}
