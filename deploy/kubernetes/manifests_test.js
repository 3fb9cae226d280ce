// The rendered manifests against Kubernetes' own schemas, and what must hold of
// them: manifests_test.js FOLDER NODE_MODULES
'use strict';

const assert = require('assert');
const childProcess = require('child_process');
const fs = require('fs');
const os = require('os');
const path = require('path');

const [folder, modules] = process.argv.slice(2);
const yaml = require('yaml');

const PACKAGES = {
  'v1': 'kubernetes-models/v1',
  'apps/v1': 'kubernetes-models/apps/v1',
  'networking.k8s.io/v1': 'kubernetes-models/networking.k8s.io/v1',
  'monitoring.coreos.com/v1':
      '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1',
};
// Maps whose keys are the user's.
const FREE_MAPS = new Set([
  'annotations', 'data', 'labels', 'limits', 'matchLabels', 'nodeSelector',
  'requests',
]);

function render(...args) {
  return childProcess.execFileSync(
      path.join(folder, 'render.py'), args, {encoding: 'utf8', stdio: 'pipe'});
}

function renderValues(change) {
  const values = fs.readFileSync(path.join(folder, 'values.env'), 'utf8');
  const temporary = fs.mkdtempSync(path.join(os.tmpdir(), 'tdpd_values_'));
  try {
    const file = path.join(temporary, 'values.env');
    fs.writeFileSync(file, change(values));
    return render(file);
  } finally {
    fs.rmSync(temporary, {recursive: true});
  }
}

const objects = yaml.parseAllDocuments(render()).map((document) => {
  assert.deepStrictEqual(document.errors, []);
  return document.toJS();
});

function find(kind) {
  const found = objects.filter((object) => object.kind === kind);
  assert.strictEqual(found.length, 1, kind);
  return found[0];
}

// Every field name of the packages: the schemas let unknown ones pass.
function knownFields() {
  const known = new Set();
  const visit = (place) => {
    for (const entry of fs.readdirSync(place, {withFileTypes: true})) {
      const inner = path.join(place, entry.name);
      if (entry.isDirectory()) {
        visit(inner);
      } else if (entry.name.endsWith('.d.ts')) {
        const text = fs.readFileSync(inner, 'utf8');
        for (const match of text.matchAll(/^\s*"?(\w+)"?\??:/gm)) {
          known.add(match[1]);
        }
      }
    }
  };
  for (const name of Object.values(PACKAGES)) visit(path.join(modules, name));
  visit(path.join(modules, '@kubernetes-models/apimachinery'));
  return known;
}

function checkFields(value, known, place) {
  if (Array.isArray(value)) {
    value.forEach((item, i) => checkFields(item, known, `${place}[${i}]`));
  } else if (value !== null && typeof value === 'object') {
    for (const [key, inner] of Object.entries(value)) {
      const there = `${place}.${key}`;
      assert(known.has(key), `${there} is no field of Kubernetes`);
      if (FREE_MAPS.has(key) || there === 'Service.spec.selector') continue;
      checkFields(inner, known, there);
    }
  }
}

const tests = {
  'every object fits its schema': () => {
    const known = knownFields();
    assert(!known.has('imagee'));
    for (const object of objects) {
      const model = require(PACKAGES[object.apiVersion])[object.kind];
      new model(object).validate();
      checkFields(object, known, object.kind);
    }
  },

  'a field of a wrong type does not fit': () => {
    const wrong = JSON.parse(JSON.stringify(find('DaemonSet')));
    wrong.spec.template.spec.containers[0].ports[0].containerPort = 'x';
    const {DaemonSet} = require(PACKAGES['apps/v1']);
    assert.throws(() => new DaemonSet(wrong).validate(), /containerPort/);
  },

  'the daemon has no privilege and no token': () => {
    const pod = find('DaemonSet').spec.template.spec;
    assert.strictEqual(find('ServiceAccount').automountServiceAccountToken,
                       false);
    assert.strictEqual(pod.automountServiceAccountToken, false);
    for (const key of ['hostNetwork', 'hostPID', 'hostIPC']) {
      assert(!(key in pod), key);
    }
    assert.strictEqual(pod.securityContext.runAsNonRoot, true);
    assert(pod.securityContext.runAsUser > 0);
    for (const volume of pod.volumes) assert(!('hostPath' in volume));
    for (const container of pod.containers) {
      const context = container.securityContext;
      assert.strictEqual(context.privileged, false);
      assert.strictEqual(context.allowPrivilegeEscalation, false);
      assert.strictEqual(context.readOnlyRootFilesystem, true);
      assert.deepStrictEqual(context.capabilities, {drop: ['ALL']});
    }
  },

  'its pod keeps the restricted standard': () => {
    const labels = find('Namespace').metadata.labels;
    assert.strictEqual(labels['pod-security.kubernetes.io/enforce'],
                       'restricted');
    const pod = find('DaemonSet').spec.template.spec;
    const allowed = ['configMap', 'emptyDir', 'secret'];
    for (const {name, ...source} of pod.volumes) {
      assert(allowed.includes(Object.keys(source)[0]), name);
    }
    assert(['RuntimeDefault', 'Localhost'].includes(
        pod.securityContext.seccompProfile.type));
  },

  'its devices come from a device plugin, as much as is limited': () => {
    const [{resources}] = find('DaemonSet').spec.template.spec.containers;
    assert.deepStrictEqual(resources.requests, resources.limits);
    for (const device of ['squat.ai/kvm', 'squat.ai/userfaultfd']) {
      assert.strictEqual(resources.limits[device], 1, device);
    }
  },

  'selectors, ports and names meet': () => {
    const set = find('DaemonSet');
    const {labels} = set.spec.template.metadata;
    for (const selector of [
           set.spec.selector.matchLabels, find('Service').spec.selector,
           find('NetworkPolicy').spec.podSelector.matchLabels,
           find('PodMonitor').spec.selector.matchLabels,
         ]) {
      for (const [key, value] of Object.entries(selector)) {
        assert.strictEqual(labels[key], value);
      }
    }
    const pod = set.spec.template.spec;
    const ports = new Set(pod.containers[0].ports.map((port) => port.name));
    const used = [
      find('Service').spec.ports[0].targetPort,
      find('PodMonitor').spec.podMetricsEndpoints[0].port,
      ...find('NetworkPolicy').spec.ingress.map((rule) => rule.ports[0].port),
    ];
    for (const port of used) assert(ports.has(port), port);
    const volumes = new Set(pod.volumes.map((volume) => volume.name));
    for (const mount of pod.containers[0].volumeMounts) {
      assert(volumes.has(mount.name), mount.name);
    }
    assert.strictEqual(pod.serviceAccountName,
                       find('ServiceAccount').metadata.name);
    assert(pod.volumes.some((volume) => volume.configMap &&
        volume.configMap.name === find('ConfigMap').metadata.name));
    for (const object of objects) {
      if (object.kind === 'Namespace') continue;
      assert.strictEqual(object.metadata.namespace,
                         find('Namespace').metadata.name, object.kind);
    }
  },

  'the daemon reaches nobody': () => {
    const {policyTypes, egress} = find('NetworkPolicy').spec;
    assert.deepStrictEqual(policyTypes, ['Ingress', 'Egress']);
    assert.deepStrictEqual(egress, []);
  },

  'a rollout does not end VMs, and a stop leaves time to drain': () => {
    const set = find('DaemonSet');
    assert.strictEqual(set.spec.updateStrategy.type, 'OnDelete');
    assert(set.spec.template.spec.terminationGracePeriodSeconds > 20);
  },

  'probes ask for the health, through the Unix socket': () => {
    const [container] = find('DaemonSet').spec.template.spec.containers;
    const listen = container.args.find((arg) => arg.startsWith('--listen='));
    for (const name of ['startupProbe', 'readinessProbe', 'livenessProbe']) {
      const [program, target, ...verb] = container[name].exec.command;
      assert.strictEqual(program, '/usr/bin/tdpctl', name);
      assert(target.startsWith('--target=unix:'), name);
      const addresses = listen.slice('--listen='.length).split(',');
      assert(addresses.includes(target.slice('--target='.length)), name);
      // Every other verb needs a role, which a policy can take away.
      assert.deepStrictEqual(verb, ['health'], name);
    }
  },

  'values that do not fit are refused': () => {
    const refuses = (change, reason) =>
        assert.throws(() => renderValues(change), (error) =>
            reason.test(error.stderr));
    refuses((text) => text.replace(/^IMAGE=.*$/m, ''), /IMAGE is missing/);
    refuses((text) => text + 'STRAY=1\n', /no manifest uses STRAY/);
    refuses((text) => text.replace(/^CPU=.*$/m, 'CPU 4'), /not NAME=VALUE/);
    refuses((text) => text.replace(/^SECCOMP_TYPE=.*$/m,
                                   'SECCOMP_TYPE=Unconfined'),
            /must be one of/);
    assert(renderValues((text) => text.replace(
        /^SECCOMP_TYPE=.*$/m, 'SECCOMP_TYPE=Localhost')).includes(
        'localhostProfile: profiles/tdpd.json'));
  },
};

let failed = 0;
for (const [name, test] of Object.entries(tests)) {
  try {
    test();
    console.log(`ok   ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAIL ${name}\n${error.stack}`);
  }
}
process.exit(failed === 0 ? 0 : 1);
