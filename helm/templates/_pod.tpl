{{/*
What the pods of the Deployment, of the migration and of `helm test` have in common: the restricted Pod Security
standard, which is not a value, and where they may run. No user is named here, because the image's own is numeric and
some platforms choose one themselves.
*/}}
{{- define "switchgear.podDefaults" -}}
automountServiceAccountToken: false
# A Service called "switchgear" would otherwise put SWITCHGEAR_PORT and its like among the service's own variables.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: tmp
    emptyDir:
      sizeLimit: 64Mi
{{- end }}

{{- define "switchgear.containerDefaults" -}}
{{- $image := .Values.image -}}
image: {{ ternary (printf "%s@%s" $image.repository $image.digest) (printf "%s:%s" $image.repository ($image.tag | default .Chart.AppVersion)) (ne $image.digest "") }}
imagePullPolicy: {{ $image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
resources:
  {{- toYaml .Values.resources | nindent 2 }}
volumeMounts:
  - name: tmp
    mountPath: /tmp
{{- end }}
