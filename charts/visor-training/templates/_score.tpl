{{/* The pod of batch scoring: no config, no key to sign with, no MLflow, and no network. */}}
{{- define "visor-training.scorePodTemplate" -}}
{{- $score := .Values.scoring -}}
metadata:
  labels:
    {{- include "visor-training.podLabels" (list . "score") | nindent 4 }}
  {{- with .Values.podAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  enableServiceLinks: false
  serviceAccountName: {{ include "visor-training.serviceAccountName" . }}
  # The part that is under way is lost, and done again by the next pod.
  terminationGracePeriodSeconds: {{ int64 .Values.terminationGracePeriodSeconds }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext: {{- toYaml .Values.podSecurityContext | nindent 4 }}
  {{- with .Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  containers:
    - name: score
      image: {{ include "visor-training.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command: [python, -m, visor.cli]
      args:
        - score
        - {{ $score.archive }}
        - {{ list "/images" $score.images.path | join "/" | clean | quote }}
        - {{ list "/scores" $score.output.path | join "/" | clean | printf "--out=%s" | quote }}
        - --store=/models
        - --public-key=/etc/visor/keys/visor.pub
        {{- with $score.digest }}
        - --digest={{ . }}
        {{- end }}
        # The Job's controller gives each pod of an Indexed Job this variable.
        - --shard=$(JOB_COMPLETION_INDEX)/{{ int64 $score.shards }}
        {{- if not (kindIs "invalid" $score.threshold) }}
        - --threshold={{ $score.threshold }}
        {{- end }}
      env:
        {{- include "visor-training.writableEnv" . | nindent 8 }}
      terminationMessagePolicy: FallbackToLogsOnError
      resources: {{- toYaml $score.resources | nindent 8 }}
      securityContext: {{- toYaml .Values.containerSecurityContext | nindent 8 }}
      volumeMounts:
        - {name: key, mountPath: /etc/visor/keys, readOnly: true}
        - name: models
          mountPath: /models
          readOnly: true
          {{- with .Values.modelStore.pvc.subPath }}
          subPath: {{ . }}
          {{- end }}
        - {name: images, mountPath: /images, readOnly: true}
        - {name: scores, mountPath: /scores}
        - {name: tmp, mountPath: /tmp}
  volumes:
    - name: key
      configMap: {name: {{ include "visor-training.fullname" . }}-score-key}
    - name: models
      persistentVolumeClaim: {claimName: {{ .Values.modelStore.pvc.claim }}, readOnly: true}
    - name: images
      persistentVolumeClaim: {claimName: {{ $score.images.claim }}, readOnly: true}
    - name: scores
      persistentVolumeClaim: {claimName: {{ $score.output.claim }}}
    - name: tmp
      emptyDir: {sizeLimit: 2Gi}
{{- end -}}

{{/* As the training's: a pod template never changes, so another one is another Job. */}}
{{- define "visor-training.scoreJobName" -}}
{{- $made := include "visor-training.scorePodTemplate" . -}}
{{- printf "%s-score-%s" (include "visor-training.fullname" .) (list $made .Values.scoring.publicKey .Values.scoring.trigger | join "\n" | sha256sum | trunc 8) -}}
{{- end -}}
