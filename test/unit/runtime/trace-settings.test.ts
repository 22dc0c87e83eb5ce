/** OpenTelemetry's variables, compiled. */
import { expect, it } from 'vitest';
import { LINKS_MAX, traceSettings } from '../../../shared/runtime/trace-settings.ts';

const ENDPOINT = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318' };

const compiled = (variables: Record<string, string>) => {
  const warnings: string[] = [];
  return { settings: traceSettings(variables, (sentence) => warnings.push(sentence)), warnings };
};

it.each([
  [{}, false],
  [ENDPOINT, true],
  [{ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://collector:4318/v1/traces' }, true],
  [{ OTEL_TRACES_EXPORTER: 'otlp' }, true],
  [{ ...ENDPOINT, OTEL_TRACES_EXPORTER: 'none' }, false],
  [{ ...ENDPOINT, OTEL_SDK_DISABLED: 'True' }, false],
  [{ ...ENDPOINT, OTEL_SDK_DISABLED: 'false' }, true],
])('are wanted by %j: %s', (variables, isWanted) => {
  const { settings, warnings } = compiled(variables);
  expect(settings !== null).toBe(isWanted);
  expect(warnings).toEqual([]);
});

it.each([
  [undefined, undefined, { root: 'always_on', ratio: 1, followsParent: true }],
  ['always_off', undefined, { root: 'always_off', ratio: 1, followsParent: false }],
  ['traceidratio', '0.25', { root: 'traceidratio', ratio: 0.25, followsParent: false }],
  ['parentbased_traceidratio', '0', { root: 'traceidratio', ratio: 0, followsParent: true }],
])('take the sampler %s with %s', (sampler, arg, expected) => {
  const { settings, warnings } = compiled({
    ...ENDPOINT,
    ...(sampler && { OTEL_TRACES_SAMPLER: sampler }),
    ...(arg && { OTEL_TRACES_SAMPLER_ARG: arg }),
  });
  expect(settings?.sampler).toEqual(expected);
  expect(warnings).toEqual([]);
});

it('take limits, and never more in a request than may wait', () => {
  const { settings } = compiled({
    ...ENDPOINT,
    OTEL_SPAN_LINK_COUNT_LIMIT: '50',
    OTEL_BSP_MAX_QUEUE_SIZE: '100',
  });
  expect(settings).toMatchObject({ linksMax: 50, waitingSpansMax: 100, sentSpansMax: 100, delayMs: 5000 });
});

it.each([
  ['OTEL_TRACES_SAMPLER', 'jaeger_remote', { sampler: { root: 'always_on', ratio: 1, followsParent: true } }],
  ['OTEL_TRACES_SAMPLER_ARG', '2', { sampler: { root: 'always_on', ratio: 1, followsParent: true } }],
  ['OTEL_SPAN_LINK_COUNT_LIMIT', 'many', { linksMax: LINKS_MAX }],
  ['OTEL_EXPORTER_OTLP_PROTOCOL', 'grpc', {}],
])('name %s where it is %s, and go on with the default', (variable, value, expected) => {
  const { settings, warnings } = compiled({ ...ENDPOINT, [variable]: value });
  expect(settings).toMatchObject(expected);
  expect(warnings).toEqual([expect.stringMatching(new RegExp(`^${variable} is "${value}"`))]);
});

it('name an exporter that is not there, and send nothing', () => {
  const { settings, warnings } = compiled({ ...ENDPOINT, OTEL_TRACES_EXPORTER: 'zipkin' });
  expect(settings).toBeNull();
  expect(warnings).toHaveLength(1);
});
