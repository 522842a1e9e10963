import { join, relative } from 'node:path';
import { cronOf, type Job, quoted, type Schedule } from './schedule.ts';

/** A CronJob and the volume of what it remembers. */
export function kubernetes(job: Job): Schedule {
  const file = `${job.name}.yaml`;
  return {
    files: [{ path: join(job.folder, file), text: `${claimText(job)}${cronJobText(job)}${podText(job)}` }],
    next: [
      `kubernetes: build the image (docs/running.md, Docker), and name it in ${file} in place of registry.example/...`,
      `kubernetes: kubectl create secret generic ${job.name} --from-env-file=${relative(job.folder, job.envFile)}`,
      `kubernetes: kubectl apply -f ${file}`,
    ],
  };
}

function claimText(job: Job): string {
  return `# cyber-collect, hourly. The variables come from the secret ${job.name}.
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: ${job.name}
spec:
  accessModes: [ReadWriteOnce]
  resources:
    requests:
      storage: 10Gi
---
`;
}

function cronJobText(job: Job): string {
  return `apiVersion: batch/v1
kind: CronJob
metadata:
  name: ${job.name}
spec:
  schedule: ${quoted(cronOf(job))}
  timeZone: Etc/UTC
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: 1200
  jobTemplate:
    spec:
      backoffLimit: 2
      activeDeadlineSeconds: 3500
      ttlSecondsAfterFinished: 86400
      podFailurePolicy:
        rules:
          # Nothing that another attempt mends: defect, configuration, credentials, nothing configured, locked.
          - action: FailJob
            onExitCodes:
              containerName: collect
              operator: In
              values: [1, 2, 4, 5, 8]
          # A node that is drained is no failure; the next pod goes on.
          - action: Ignore
            onPodConditions:
              - type: DisruptionTarget
                status: "True"
`;
}

function podText(job: Job): string {
  return `      template:
        spec:
          restartPolicy: Never
          # The same name each time: a lock that a killed pod left is taken over at once.
          hostname: ${job.name}
          automountServiceAccountToken: false
          terminationGracePeriodSeconds: 30
          securityContext:
            runAsNonRoot: true
            runAsUser: 1000
            runAsGroup: 1000
            fsGroup: 1000
            seccompProfile:
              type: RuntimeDefault
${containerText(job)}`;
}

function containerText(job: Job): string {
  const args = ['run', '--log-format', 'json', '--output', 'json', ...job.flags];
  return `          containers:
            - name: collect
              image: registry.example/cyber-collect:${job.version}
              args: [${args.map(quoted).join(', ')}]
              envFrom:
                - secretRef:
                    name: ${job.name}
              securityContext:
                allowPrivilegeEscalation: false
                readOnlyRootFilesystem: true
                capabilities:
                  drop: [ALL]
              resources:
                requests:
                  cpu: 250m
                  memory: 256Mi
                limits:
                  memory: 1Gi
              volumeMounts:
                - name: data
                  mountPath: /data
                - name: tmp
                  mountPath: /tmp
          volumes:
            - name: data
              persistentVolumeClaim:
                claimName: ${job.name}
            - name: tmp
              emptyDir: {}
`;
}

/** A DAG with an operator that knows the exit codes. */
export function airflow(job: Job): Schedule {
  const file = `${job.name.replaceAll('-', '_')}.py`;
  const list = (words: readonly string[]) => `[\n${words.map((one) => `    ${quoted(one)},\n`).join('')}]`;
  const command = [...job.program, 'run', '--log-format', 'json', '--env-file', job.envFile, ...job.flags];
  const text = `"""cyber-collect, hourly, as a DAG of Airflow 2.11 and 3."""

from __future__ import annotations

import hashlib
import subprocess
from datetime import datetime, timedelta, timezone

try:
    from airflow.sdk import DAG, BaseOperator
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.models import BaseOperator

from airflow.exceptions import AirflowException, AirflowFailException

# As it is on the workers; the variables stand in the file behind --env-file.
COMMAND = ${list(command)}
FOLDER = ${quoted(job.folder)}

MEANINGS = {
    1: "a defect",
    2: "usage or configuration",
    3: "a dataset is not complete",
    4: "the credentials of every collector were refused",
    5: "nothing is configured",
    6: "a store failed",
    8: "another run is at it",
    124: "the deadline passed",
}
# No other attempt mends these.
FINAL = {1, 2, 4, 5}


class CyberCollectOperator(BaseOperator):
    """Runs cyber-collect; every attempt of one run stores under the same upload ids."""

    child: subprocess.Popen | None = None

    def execute(self, context):
        slot = hashlib.sha256(context["run_id"].encode()).hexdigest()[:32]
        self.child = subprocess.Popen(
            [*COMMAND, "--slot", slot],
            cwd=FOLDER,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for line in self.child.stdout:
            self.log.info(line.rstrip())
        code = self.child.wait()
        if code == 0:
            return
        said = f"cyber-collect ended with {code}: {MEANINGS.get(code, 'it was stopped')}"
        raise AirflowFailException(said) if code in FINAL else AirflowException(said)

    def on_kill(self):
        if self.child is not None:
            self.child.terminate()


with DAG(
    dag_id=${quoted(job.name)},
    schedule=${quoted(cronOf(job))},
    start_date=datetime(2025, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=10)},
):
    CyberCollectOperator(task_id="collect", execution_timeout=timedelta(minutes=55))
`;
  return {
    files: [{ path: join(job.folder, file), text }],
    next: [`airflow: put ${file} into the folder of your DAGs; on the workers, its paths must lead to the same files`],
  };
}
