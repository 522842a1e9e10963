import { join } from 'node:path';
import { cronOf, type Job, type Schedule, shellOf } from './schedule.ts';

/** A line for a crontab. */
export function cron(job: Job): Schedule {
  const file = `${job.name}.cron`;
  const run = [...job.program, 'run', '--quiet', '--env-file', job.envFile, ...job.flags];
  const said = `${shellOf(run)} >> ${job.name}.log 2>&1 || echo "${job.name} ended with exit code $?"`;
  // cron takes a % for a line's end.
  const line = `umask 077; cd ${shellOf([job.folder])} && ${said}`.replaceAll('%', '\\%');
  const text = `# cyber-collect, hourly. What echo says is mailed by cron.\n${cronOf(job)} ${line}\n`;
  return {
    files: [{ path: join(job.folder, file), text }],
    next: [`cron: (crontab -l; cat ${file}) | crontab -`],
  };
}

/** A service and its timer. */
export function systemd(job: Job): Schedule {
  const units = `${job.name}.service ${job.name}.timer`;
  const begin = `sudo systemctl daemon-reload && sudo systemctl enable --now ${job.name}.timer`;
  return {
    files: [
      { path: join(job.folder, `${job.name}.service`), text: serviceText(job) },
      { path: join(job.folder, `${job.name}.timer`), text: timerText(job) },
    ],
    next: [`systemd: sudo cp ${units} /etc/systemd/system/ && ${begin}`],
  };
}

function serviceText(job: Job): string {
  const run = [...job.program, 'run', '--quiet', '--env-file', job.envFile, ...job.flags];
  return `[Unit]
Description=Collect security data of ${plain(job.tenancy)}
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
User=${job.user}
UMask=0077
WorkingDirectory=${plain(job.folder)}
ExecStart=${run.map(word).join(' ')}
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths=${word(job.folder)}
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
LockPersonality=yes
`;
}

function timerText({ tenancy, minute }: Job): string {
  return `[Unit]
Description=Collect security data of ${plain(tenancy)}, hourly

[Timer]
OnCalendar=*-*-* *:${String(minute).padStart(2, '0')}:00
Persistent=yes

[Install]
WantedBy=timers.target
`;
}

/** A text in which no specifier is meant. */
function plain(text: string): string {
  return text.replaceAll('%', '%%');
}

/** A word of a unit file: specifiers and variables are not meant. */
function word(text: string): string {
  const literal = plain(text).replaceAll('$', '$$$$');
  return /^[\w@%+=:,./$-]+$/.test(literal) ? literal : `"${literal.replace(/[\\"]/g, '\\$&')}"`;
}
