{{/* The training's containers and volumes, in the parts that Job, CronJob and TrainJob put together. */}}

{{/*
(root, step): the arguments of one step of the pipeline. What decodes foreign images, `train`, has neither the key nor the model
store; what signs, `check` and `deliver`, decodes none. `train` names its run in a file to `deliver`.
*/}}
{{- define "visor-training.args" -}}
{{- $root := index . 0 -}}
{{- $step := index . 1 -}}
{{- with $root.Values -}}
- pipeline
- /etc/visor/config/config.yaml
- --step={{ $step }}
- --home=/runs
{{- if ne $step "check" }}
- --run-file={{ ternary "/runs/@TRAIN_JOB@.run" "/run/visor/run" .trainJob.enabled }}
{{- end }}
{{- if ne $step "train" }}
- --key=/etc/visor/keys/visor.key
{{- if .signing.passphrase.secretName }}
- --passphrase-file=/etc/visor/passphrase/passphrase
{{- end }}
{{- if .modelStore.s3.uri }}
- --store=/runs/model-store
- {{ printf "--store-uri=%s" .modelStore.s3.uri | quote }}
{{- else }}
- --store=/models
{{- end }}
- --alias={{ .alias }}
{{- end }}
{{- if eq .data.source "pvc" }}
- {{ printf "--data-uri=%s" (list "/data" .data.pvc.path | join "/" | clean) | quote }}
{{- else if eq .data.source "s3" }}
- {{ printf "--data-uri=%s" .data.s3.uri | quote }}
{{- end }}
{{- with .backend }}
- --backend={{ . }}
{{- end }}
- --mlflow-wait-s={{ int64 .mlflow.waitSeconds }}
{{- range .set }}
- {{ printf "--set=%s" . | quote }}
{{- end }}
{{- end -}}
{{- end -}}

{{- define "visor-training.env" -}}
{{ include "visor-training.writableEnv" . }}
{{- with include "visor-training.trackingUri" . }}
- name: MLFLOW_TRACKING_URI
  value: {{ . | quote }}
{{- end }}
{{- include "visor-training.s3Env" . }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* (root, step): as the arguments. What `train` writes into its /tmp, where HOME is, nobody else reads. */}}
{{- define "visor-training.volumeMounts" -}}
{{- $step := index . 1 -}}
{{- with (index . 0).Values -}}
- {name: config, mountPath: /etc/visor/config, readOnly: true}
- {name: home, mountPath: /runs}
{{- if eq $step "train" }}
- {name: tmp, mountPath: /tmp}
{{- if eq .data.source "pvc" }}
- {name: data, mountPath: /data, readOnly: true}
{{- end }}
{{- if .sharedMemory }}
- {name: shm, mountPath: /dev/shm}
{{- end }}
{{- else }}
- {name: signing-tmp, mountPath: /tmp}
- {name: key, mountPath: /etc/visor/keys, readOnly: true}
{{- if .signing.passphrase.secretName }}
- {name: passphrase, mountPath: /etc/visor/passphrase, readOnly: true}
{{- end }}
{{- if not .modelStore.s3.uri }}
- name: models
  mountPath: /models
  {{- with .modelStore.pvc.subPath }}
  subPath: {{ . }}
  {{- end }}
{{- end }}
{{- end }}
{{- if not (or (eq $step "check") .trainJob.enabled) }}
- {name: run, mountPath: /run/visor, readOnly: {{ eq $step "deliver" }}}
{{- end }}
{{- with .extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* Volumes of every step. */}}
{{- define "visor-training.volumes" -}}
- name: config
  configMap:
    name: {{ .Values.config.configMap.name | default (printf "%s-config" (include "visor-training.fullname" .)) }}
    items: [{key: {{ ternary .Values.config.configMap.key "config.yaml" (not (empty .Values.config.configMap.name)) }}, path: config.yaml}]
- name: home
  persistentVolumeClaim: {claimName: {{ include "visor-training.homeClaim" . }}}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "visor-training.trainVolumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 2Gi}
{{- if eq .Values.data.source "pvc" }}
- name: data
  persistentVolumeClaim: {claimName: {{ .Values.data.pvc.claim }}, readOnly: true}
{{- end }}
{{- with .Values.sharedMemory }}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ . }}}
{{- end }}
{{- end -}}

{{- define "visor-training.deliverVolumes" -}}
- name: signing-tmp
  emptyDir: {sizeLimit: 2Gi}
- name: key
  secret:
    secretName: {{ .Values.signing.secretName }}
    items: [{key: {{ .Values.signing.key }}, path: visor.key}]
    defaultMode: 0440
{{- with .Values.signing.passphrase }}
{{- if .secretName }}
- name: passphrase
  secret:
    secretName: {{ .secretName }}
    items: [{key: {{ .key }}, path: passphrase}]
    defaultMode: 0440
{{- end }}
{{- end }}
{{- if not .Values.modelStore.s3.uri }}
- name: models
  persistentVolumeClaim: {claimName: {{ .Values.modelStore.pvc.claim }}}
{{- end }}
{{- end -}}

{{/* What stands in the metadata of the training's pods. */}}
{{- define "visor-training.podMetadata" -}}
labels:
  {{- include "visor-training.podLabels" (list . "train") | nindent 2 }}
{{- with .Values.podAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Fields that a TrainJob's patch of a pod takes, too. */}}
{{- define "visor-training.placement" -}}
serviceAccountName: {{ include "visor-training.serviceAccountName" . }}
terminationGracePeriodSeconds: {{ int64 .Values.terminationGracePeriodSeconds }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext: {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  {{- include "visor-training.volumes" . | nindent 2 }}
{{- end -}}

{{/* (root, step): one step as a container. */}}
{{- define "visor-training.container" -}}
{{- $root := index . 0 -}}
{{- $step := index . 1 -}}
name: {{ $step }}
image: {{ include "visor-training.image" $root }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
command: [python, -m, visor.cli]
args:
  {{- include "visor-training.args" . | nindent 2 }}
  {{- if and (eq $step "deliver") $root.Values.trainJob.enabled }}
  - --run-wait-s={{ int64 $root.Values.trainJob.waitSeconds }}
  {{- end }}
env:
  {{- include "visor-training.env" $root | nindent 2 }}
# The last lines, `visor: CODE: sentence`, are then in the pod's status as well.
terminationMessagePolicy: FallbackToLogsOnError
resources: {{- toYaml (ternary $root.Values.resources $root.Values.signing.resources (eq $step "train")) | nindent 2 }}
securityContext: {{- toYaml $root.Values.containerSecurityContext | nindent 2 }}
volumeMounts:
  {{- include "visor-training.volumeMounts" . | nindent 2 }}
{{- end -}}

{{/*
The pod of Job and CronJob, step by step: what cannot work is said before hours of fitting, and the key is where no image is.
Beside a TrainJob, whose pods train, it is what delivers.
*/}}
{{- define "visor-training.podTemplate" -}}
metadata:
  {{- include "visor-training.podMetadata" . | nindent 2 }}
spec:
  # podFailurePolicy asks for it: each attempt is a pod of its own.
  restartPolicy: Never
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- include "visor-training.placement" . | nindent 2 }}
    {{- include "visor-training.deliverVolumes" . | nindent 4 }}
    {{- if not .Values.trainJob.enabled }}
    {{- include "visor-training.trainVolumes" . | nindent 4 }}
    # In which `train` names its run.
    - name: run
      emptyDir: {sizeLimit: 1Mi}
    {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- if not .Values.trainJob.enabled }}
  initContainers:
    {{- range list "check" "train" }}
    -
      {{- include "visor-training.container" (list $ .) | nindent 6 }}
    {{- end }}
  {{- end }}
  containers:
    -
      {{- include "visor-training.container" (list . "deliver") | nindent 6 }}
{{- end -}}

{{/* What Job and CronJob say beside the pod. */}}
{{- define "visor-training.jobSpec" -}}
backoffLimit: {{ int64 .Values.job.backoffLimit }}
{{- with .Values.job.activeDeadlineSeconds }}
activeDeadlineSeconds: {{ int64 . }}
{{- end }}
# Not while the old pod still writes into the same run.
podReplacementPolicy: Failed
podFailurePolicy:
  rules:
    # Evicted, preempted, drained, or its node is gone: the next pod goes on from the last epoch, as often as it takes.
    - action: Ignore
      onPodConditions: [{type: DisruptionTarget, status: "True"}]
    # Any step that was told to stop in another way, such as kubectl delete pod: 130 is `visor: interrupted`.
    - action: Ignore
      onExitCodes: {operator: In, values: [130]}
    # A command line that visor does not take: trying again does not help.
    - action: FailJob
      onExitCodes: {operator: In, values: [2]}
template:
  {{- include "visor-training.podTemplate" . | nindent 2 }}
{{- end -}}

{{/* The whole of a TrainJob. */}}
{{- define "visor-training.trainJobSpec" -}}
{{- $train := .Values.trainJob -}}
runtimeRef: {{- toYaml $train.runtimeRef | nindent 2 }}
{{- with .Values.job.activeDeadlineSeconds }}
activeDeadlineSeconds: {{ int64 . }}
{{- end }}
trainer:
  image: {{ include "visor-training.image" . }}
  numNodes: {{ int64 $train.nodes }}
  numProcPerNode: {{ int64 $train.processesPerNode }}
  # torchrun finds nodes, processes and the first node's address in the PET_* variables that the runtime sets.
  command: [python, -m, torch.distributed.run, -m, visor.cli]
  args:
    {{- include "visor-training.args" (list . "train") | nindent 4 }}
  env:
    {{- include "visor-training.env" . | nindent 4 }}
  resourcesPerNode: {{- toYaml .Values.resources | nindent 4 }}
# What a TrainJob has no field for is laid over the runtime's pod. Neither imagePullPolicy nor the priority class can be.
runtimePatches:
  - manager: visor.io/visor-training
    trainingRuntimeSpec:
      template:
        spec:
          replicatedJobs:
            - name: {{ $train.replicatedJob }}
              template:
                spec:
                  template:
                    metadata:
                      {{- include "visor-training.podMetadata" . | nindent 22 }}
                    spec:
                      {{- include "visor-training.placement" . | nindent 22 }}
                        {{- include "visor-training.trainVolumes" . | nindent 24 }}
                      containers:
                        - name: node
                          securityContext: {{- toYaml .Values.containerSecurityContext | nindent 28 }}
                          volumeMounts:
                            {{- include "visor-training.volumeMounts" (list . "train") | nindent 28 }}
{{- end -}}

{{/* The TrainJob, and the Job that delivers what it made, share a file in `home`, which has the TrainJob's name. */}}
{{- define "visor-training.named" -}}
{{- replace "@TRAIN_JOB@" (include "visor-training.jobName" (index . 0)) (index . 1) -}}
{{- end -}}

{{/*
A Job's pod template and all of a TrainJob can never be changed, so a change needs an object of another name. Eight digits over
all that it is made of are that name: an upgrade that changes nothing leaves the training alone, as a name with the release's
revision would not, and one that does change something deletes the old Job, whose checkpoints stay in `home`. A Job that is made
once more for the same config and images, because of a new image or value, finds that there is nothing to do.
*/}}
{{- define "visor-training.jobName" -}}
{{- $made := include (ternary "visor-training.trainJobSpec" "visor-training.podTemplate" .Values.trainJob.enabled) . -}}
{{- printf "%s-%s" (include "visor-training.fullname" .) (list $made .Values.config.text .Values.job.trigger | join "\n" | sha256sum | trunc 8) -}}
{{- end -}}


{{/* NAME-deliver-CHECKSUM: of its pod, and of the TrainJob that it waits for. */}}
{{- define "visor-training.deliverJobName" -}}
{{- $made := include "visor-training.podTemplate" . -}}
{{- printf "%s-deliver-%s" (include "visor-training.fullname" .) (list $made (include "visor-training.jobName" .) | join "\n" | sha256sum | trunc 8) -}}
{{- end -}}
