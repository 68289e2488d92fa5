//! The whole report of a manifest that was written for another cluster.

#![allow(clippy::unwrap_used)]

use super::Loader;
use crate::kind::Deployment;

/// A web shop's front end as its team keeps it for a cluster of another make.
const FOREIGN: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: front
  labels: {app: front}
  managedFields: [{manager: kubectl}]
spec:
  replicas: 2
  selector: {matchLabels: {app: front}}
  template:
    metadata: {labels: {app: front}}
    spec:
      serviceAccountName: front
      automountServiceAccountToken: no
      priorityClassName: important
      hostname: front
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}
      containers:
      - name: front
        image: shop/front:7
        imagePullPolicy: IfNotPresent
        ports: [{containerPort: 8080, hostPort: 80}]
        securityContext: {readOnlyRootFilesystem: true}
        volumeMounts:
        - {name: config, mountPath: /etc/front, readOnly: true}
        - {name: pictures, mountPath: /pictures}
        livenessProbe: {httpGet: {path: /, port: 8080}}
      volumes:
      - name: config
        configMap: {name: front, defaultMode: 0440}
      - name: pictures
        gcePersistentDisk: {pdName: pictures}
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec:
  type: LoadBalancer
  sessionAffinity: ClientIP
  selector: {app: front}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: front}
spec: {defaultBackend: {service: {name: front, port: {number: 80}}}}
";

#[test]
fn the_report_of_a_realistic_manifest() {
    let found = Loader::new().skip_unknown_kinds().load(FOREIGN).unwrap();
    assert_eq!(found.objects.len(), 2);
    let report: Vec<_> = found.unhonoured.iter().map(ToString::to_string).collect();
    assert_eq!(report.join("\n"), REPORT);
    let modes = found.of::<Deployment>().map(|front| {
        let volume = &front.spec.template.spec.volumes[0];
        volume.config_map.as_ref().and_then(|map| map.default_mode)
    });
    assert_eq!(modes.collect::<Vec<_>>(), [Some(0o440)]);
}

const REPORT: &str = "\
document 1, line 6, Deployment front: metadata.managedFields is not acted on: nobody keeps who set which field
document 1, line 13, Deployment front: spec.template.spec.serviceAccountName is not acted on: there are no service accounts
document 1, line 14, Deployment front: spec.template.spec.automountServiceAccountToken is not acted on: there are no service accounts
document 1, line 16, Deployment front: spec.template.spec.hostname is not acted on: pods keep the name of the host
document 1, line 22, Deployment front: spec.template.spec.containers[0].imagePullPolicy is not acted on: drivers take images as they are
document 1, line 23, Deployment front: spec.template.spec.containers[0].ports[0].hostPort is not acted on: pods that ask for the same one are kept apart; nothing listens there
document 1, line 24, Deployment front: spec.template.spec.containers[0].securityContext is not acted on: containers run as the user of the agent
document 1, line 26, Deployment front: spec.template.spec.containers[0].volumeMounts[0].readOnly is not acted on: containers see the files of the host; the mount's variable leads there
document 1, line 31, Deployment front: spec.template.spec.volumes[0].configMap.defaultMode is not acted on: files get the permissions that the agent's files get
document 1, line 33, Deployment front: spec.template.spec.volumes[1].gcePersistentDisk is not acted on: there is no such storage; a pod that asks for it does not start
document 2, line 39, Service front: spec.type is not acted on: services are reached within the cluster
document 2, line 40, Service front: spec.sessionAffinity is not acted on: each connection goes to the next ready pod
document 2, line 42, Service front: spec.ports[0].nodePort is not acted on: services are reached within the cluster
document 3, line 44, Ingress front: the kind is not known; the object is left out";
