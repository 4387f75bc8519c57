{{/* The labels that `kubectl bulkhead status`, the DaemonSet and the PodMonitor select by. */}}
{{- define "bulkhead.labels" -}}
app.kubernetes.io/name: bulkhead
{{- end }}

{{/* The daemon's ServiceAccount, as a subject. */}}
{{- define "bulkhead.subject" -}}
- kind: ServiceAccount
  name: bulkhead
  namespace: {{ .Release.Namespace }}
{{- end }}

{{- define "bulkhead.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end }}
{{- end }}
{{- end }}

{{/* The port of the status endpoint. */}}
{{- define "bulkhead.port" -}}
{{ required "status.address needs a port, as in 0.0.0.0:9720" (regexFind "[0-9]+$" .Values.status.address) }}
{{- end }}

{{/*
How the kubelet asks: by TLS, unless the daemon listens on loopback without a certificate; there the kubelet
must be told to come by loopback, too.
*/}}
{{- define "bulkhead.probe" -}}
{{- $host := regexFind "^(127[.]0[.]0[.]1|\\[::1\\])" .Values.status.address | trimAll "[]" -}}
scheme: {{ if and $host (not .Values.status.tlsSecret) }}HTTP{{ else }}HTTPS{{ end }}
port: status
{{- with $host }}
host: {{ . | quote }}
{{- end }}
{{- end }}
