import { describe, expect, it } from 'vitest';
import { explain } from '../../../cli/failure.ts';
import { DeploymentError } from '../../../sdk/index.ts';
import { CATALOGUE, type ErrorCode } from '../../../shared/errors/catalogue.ts';
import { SluiceError } from '../../../shared/errors/sluice-error.ts';

/** As the server's problem document brings it: with the catalogue's fix. */
const told = (code: ErrorCode, detail: string): string =>
  explain(new SluiceError(code, detail, { fix: CATALOGUE[code].fix }));

describe('the way on after an error', () => {
  it('is not added where the detail has it', () => {
    const details: [ErrorCode, string][] = [
      ['invalid_request', 'limit is 0; give a whole number from 1 to 1000.'],
      [
        'invalid_function',
        'The name is "a b"; give a letter and up to 127 letters, digits, ".", "_" or "-".',
      ],
      ['invalid_model', 'There are 10 models, and at most 10; delete some.'],
      ['invalid_scaling_group', 'There are 10 scaling groups, and at most 10; delete some.'],
      ['schema_mismatch', 'column "b" is no input of the function; its inputs are "a" int64 not null.'],
      ['function_busy', 'Function "f" has 2 unfinished calls; purge it or wait until they are finished.'],
      [
        'internal',
        'Another process owns the data directory d; stop it, or give another directory with --data.',
      ],
      ['memory_full', 'Nothing is admitted. Wait until results expire, or raise maxmemory.'],
    ];
    for (const [code, detail] of details) expect(told(code, detail)).toBe(detail);
  });

  it('is that of the command line where the detail only says what is wrong', () => {
    const details: [ErrorCode, string, string][] = [
      ['unauthorized', 'The API key is unknown or revoked.', 'Set SLUICE_API_KEY or give --api-key; '],
      ['forbidden', 'The API key has no scope "deploy".', 'Give another key with SLUICE_API_KEY'],
      ['not_found', 'There is no key "k9".', 'Check the name, and the server'],
      ['function_not_found', 'There is no function "f".', 'Deploy it with `sluice deploy`'],
      ['call_not_found', 'There is no call c.', 'Check the call id'],
      ['model_not_found', 'There is no model "m".', 'Register it, or list with `sluice models`.'],
      [
        'scaling_group_not_found',
        'There is no scaling group "g".',
        'Deploy it, or list with `sluice groups`.',
      ],
      ['queue_full', 'The queue of function "f" is full.', 'Run the command again when there is room.'],
      ['disk_full', 'The data directory is at its limit of 9 bytes.', 'Free space, raise --disk-limit'],
      ['store_unavailable', 'Redis does not answer: refused.', 'Run the command again once it answers.'],
    ];
    for (const [code, detail, way] of details)
      expect(told(code, detail).startsWith(`${detail} ${way}`), code).toBe(true);
  });

  it('stands below a traceback', () => {
    const reason = 'Traceback (most recent call last):\n  File "model.py"\nValueError: no weights';
    expect(explain(new DeploymentError('g', 'failed', reason))).toBe(
      `Scaling group g cannot serve: ${reason}\nSee \`sluice groups show g\` and \`sluice groups logs g\`.`,
    );
    const plain = explain(new DeploymentError('g', 'failed', 'no numpy'));
    expect(plain).toMatch(/^Scaling group g cannot serve: no numpy\. See `[^\n]*$/);
  });

  it('says what is wrong with a file, also where the system names none', () => {
    const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
    expect(explain(full)).toBe(
      'A file that the command has open lies on a full disk; free space, then run the command again.',
    );
    const large = Object.assign(new Error('EFBIG: file too large, write'), {
      code: 'EFBIG',
      path: 'out.parquet',
    });
    expect(explain(large)).toBe(
      'out.parquet is larger than this user may write; raise the limit (ulimit -f), then run the command again.',
    );
  });

  it("is the error's own where it has one", () => {
    const error = new SluiceError('internal', 'There is nothing at redis.', { fix: 'Check --from.' });
    expect(explain(error)).toBe('There is nothing at redis. Check --from.');
  });
});
