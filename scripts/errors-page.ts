/** Writes docs/ERRORS.md from the catalogue: `node scripts/errors-page.ts`. A test compares the two. */
import { writeFileSync } from 'node:fs';
import { CATALOGUE } from '../shared/errors/catalogue.ts';

export const errorsPage = (): string => {
  const rows = Object.entries(CATALOGUE).map(
    ([code, { status, retryable, title, fix }]) =>
      `| \`${code}\` | ${status} | ${retryable ? 'yes' : 'no'} | ${title}. ${fix} |`,
  );
  return `# Errors

One catalogue (\`shared/errors/catalogue.ts\`) serves HTTP, the SDKs and the rows of results; this page is written from it.
HTTP answers are RFC 9457 problem documents whose \`type\` ends in the code. *Retryable* means that the same request may
succeed later without a change. Errors of single rows (\`handler_error\` to \`row_expired\`) stand in a result's \`errors\`.
\`invalid_request\` also comes with 408 (the request took too long), 413 (chunk extensions), 417 (\`Expect\`) and 431 (the head is too large),
where it is refused before a route looks at it.

| code | HTTP | retryable | what it means and what to do |
|---|---|---|---|
${rows.join('\n')}
`;
};

if (import.meta.main) writeFileSync(new URL('../docs/ERRORS.md', import.meta.url), errorsPage());
