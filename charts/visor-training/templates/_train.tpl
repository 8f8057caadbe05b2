{{/* The training's container and volumes, in the parts that Job, CronJob and TrainJob put together. */}}

{{- define "visor-training.command" -}}
{{- if .Values.trainJob.enabled -}}
[python, -m, torch.distributed.run, -m, visor.cli]
{{- else -}}
[python, -m, visor.cli]
{{- end -}}
{{- end -}}

{{- define "visor-training.args" -}}
- pipeline
- /etc/visor/config/config.yaml
- --home=/runs
- --key=/etc/visor/keys/visor.key
{{- if .Values.modelStore.s3.uri }}
- --store=/runs/model-store
- {{ printf "--store-uri=%s" .Values.modelStore.s3.uri | quote }}
{{- else }}
- --store=/models
{{- end }}
{{- if eq .Values.data.source "pvc" }}
- {{ printf "--data-uri=%s" (list "/data" .Values.data.pvc.path | join "/" | clean) | quote }}
{{- else if eq .Values.data.source "s3" }}
- {{ printf "--data-uri=%s" .Values.data.s3.uri | quote }}
{{- end }}
{{- with .Values.backend }}
- --backend={{ . }}
{{- end }}
- --alias={{ .Values.alias }}
- --mlflow-wait-s={{ .Values.mlflow.waitSeconds }}
{{- range .Values.set }}
- {{ printf "--set=%s" . | quote }}
{{- end }}
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

{{- define "visor-training.volumeMounts" -}}
- {name: config, mountPath: /etc/visor/config, readOnly: true}
- {name: key, mountPath: /etc/visor/keys, readOnly: true}
- {name: home, mountPath: /runs}
- {name: tmp, mountPath: /tmp}
{{- if not .Values.modelStore.s3.uri }}
- name: models
  mountPath: /models
  {{- with .Values.modelStore.pvc.subPath }}
  subPath: {{ . }}
  {{- end }}
{{- end }}
{{- if eq .Values.data.source "pvc" }}
- {name: data, mountPath: /data, readOnly: true}
{{- end }}
{{- if .Values.sharedMemory }}
- {name: shm, mountPath: /dev/shm}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "visor-training.volumes" -}}
- name: config
  configMap:
    name: {{ .Values.config.configMap.name | default (printf "%s-config" (include "visor-training.fullname" .)) }}
    items: [{key: {{ ternary .Values.config.configMap.key "config.yaml" (not (empty .Values.config.configMap.name)) }}, path: config.yaml}]
- name: key
  secret:
    secretName: {{ .Values.signing.secretName }}
    items: [{key: {{ .Values.signing.key }}, path: visor.key}]
    defaultMode: 0440
- name: home
  persistentVolumeClaim: {claimName: {{ include "visor-training.homeClaim" . }}}
- name: tmp
  emptyDir: {sizeLimit: 2Gi}
{{- if not .Values.modelStore.s3.uri }}
- name: models
  persistentVolumeClaim: {claimName: {{ .Values.modelStore.pvc.claim }}}
{{- end }}
{{- if eq .Values.data.source "pvc" }}
- name: data
  persistentVolumeClaim: {claimName: {{ .Values.data.pvc.claim }}, readOnly: true}
{{- end }}
{{- with .Values.sharedMemory }}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ . }}}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
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
terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
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

{{/* The pod of Job and CronJob. */}}
{{- define "visor-training.podTemplate" -}}
metadata:
  {{- include "visor-training.podMetadata" . | nindent 2 }}
spec:
  # podFailurePolicy asks for it: each attempt is a pod of its own.
  restartPolicy: Never
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- include "visor-training.placement" . | nindent 2 }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  containers:
    - name: train
      image: {{ include "visor-training.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command: {{ include "visor-training.command" . }}
      args:
        {{- include "visor-training.args" . | nindent 8 }}
      env:
        {{- include "visor-training.env" . | nindent 8 }}
      # The last lines, `visor: CODE: sentence`, are then in the pod's status as well.
      terminationMessagePolicy: FallbackToLogsOnError
      resources: {{- toYaml .Values.resources | nindent 8 }}
      securityContext: {{- toYaml .Values.containerSecurityContext | nindent 8 }}
      volumeMounts:
        {{- include "visor-training.volumeMounts" . | nindent 8 }}
{{- end -}}

{{/* What Job and CronJob say beside the pod. */}}
{{- define "visor-training.jobSpec" -}}
backoffLimit: {{ .Values.job.backoffLimit }}
{{- with .Values.job.activeDeadlineSeconds }}
activeDeadlineSeconds: {{ int . }}
{{- end }}
# Not while the old pod still writes into the same run.
podReplacementPolicy: Failed
podFailurePolicy:
  rules:
    # Evicted, preempted, drained, or its node is gone: the next pod goes on from the last epoch, as often as it takes.
    - action: Ignore
      onPodConditions: [{type: DisruptionTarget, status: "True"}]
    # Told to stop in another way, such as kubectl delete pod: 130 is `visor: interrupted`.
    - action: Ignore
      onExitCodes: {containerName: train, operator: In, values: [130]}
    # A command line that visor does not take: trying again does not help.
    - action: FailJob
      onExitCodes: {containerName: train, operator: In, values: [2]}
template:
  {{- include "visor-training.podTemplate" . | nindent 2 }}
{{- end -}}

{{/* The whole of a TrainJob. */}}
{{- define "visor-training.trainJobSpec" -}}
{{- $train := .Values.trainJob -}}
runtimeRef: {{- toYaml $train.runtimeRef | nindent 2 }}
{{- with .Values.job.activeDeadlineSeconds }}
activeDeadlineSeconds: {{ int . }}
{{- end }}
trainer:
  image: {{ include "visor-training.image" . }}
  numNodes: {{ $train.nodes }}
  numProcPerNode: {{ $train.processesPerNode }}
  # torchrun finds nodes, processes and the first node's address in the PET_* variables that the runtime sets.
  command: {{ include "visor-training.command" . }}
  args:
    {{- include "visor-training.args" . | nindent 4 }}
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
                      containers:
                        - name: node
                          securityContext: {{- toYaml .Values.containerSecurityContext | nindent 28 }}
                          volumeMounts:
                            {{- include "visor-training.volumeMounts" . | nindent 28 }}
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
