/**
 * A reporter of vitest that writes what failed, for the second run of scripts/test.sh: a line `FILE<tab>TEST` each, into
 * $FAILED_TESTS. It writes nothing where the run itself broke: by an error outside of all tests, or because it was cut off.
 */
import { writeFileSync } from 'node:fs';
import type { Reporter, TestModule, TestRunEndReason } from 'vitest/node';

const failuresOf = (module: TestModule): string[] => {
  const suites = [...module.children.allSuites()].filter((suite) => suite.errors().length > 0);
  const found = [
    ...(module.errors().length > 0 ? ['the file itself'] : []),
    ...suites.map(({ fullName }) => `${fullName} (its hooks)`),
    ...[...module.children.allTests('failed')].map(({ fullName }) => fullName),
  ];
  return found.map((test) => `${module.relativeModuleId}\t${test.replaceAll(/\s+/g, ' ')}\n`);
};

export default class FailedTests implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly unknown[], reason: TestRunEndReason): void {
    if (errors.length > 0 || reason === 'interrupted') return;
    const failed = modules.filter((module) => module.state() === 'failed');
    writeFileSync(process.env.FAILED_TESTS!, failed.flatMap(failuresOf).join(''));
  }
}
