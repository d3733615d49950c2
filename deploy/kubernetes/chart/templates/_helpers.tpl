{{- define "fim.labels" -}}
app.kubernetes.io/name: fim
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
{{- define "fim.selector" -}}
app.kubernetes.io/name: fim
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
