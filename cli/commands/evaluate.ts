/** `sluice evaluate`: a model's answers compared with the labels of a table. */
import { type Command, Option } from 'commander';
import { wholeNumber } from '../arguments.ts';
import { withConnection } from '../connection.ts';
import { packageRequirement } from '../deploy/python-package.ts';
import type { EvaluationOptions } from '../evaluate/run-evaluation.ts';

const ABOUT = `
  sluice evaluate house-price-sg houses.parquet --labels price --task regression
  sluice evaluate species flowers.csv --labels kind --task classification
  sluice evaluate minilm queries.parquet --labels relevant --task retrieval --documents documents.parquet

Tables are .parquet, .csv, .tsv or .arrow. Their columns go to the function by the names of its inputs; --inputs a,input=b
renames. Rows whose label is null are not sent; rows that fail are counted, named, and no part of the figures.

classification  the answer is a class, a score for each class (a list in the order of --classes, or a struct with the
                classes as names), or the probability of the second of two classes
regression      the answer is a number
retrieval       FILE has the queries, and --labels names the ids of each query's relevant documents: a list, or one id, or
                in a text file a JSON list; documents are ranked by the cosine of their vectors with the query's

The figures are scikit-learn's, computed in Python: that of --python, else $SLUICE_PYTHON, else .venv beside the file or
above, with \`pip install ${packageRequirement('[evaluate]')}\`.`;

export const registerEvaluate = (program: Command): void => {
  withConnection(
    program
      .command('evaluate')
      .summary('compare the answers of a model with the labels of a table')
      .description('Send the rows of a labelled table to a model, and compare its answers with the labels.')
      .argument('<target>', 'scaling group or function')
      .argument('<file>', 'labelled table')
      .requiredOption('--labels <column>', 'column with the truth')
      .addOption(
        new Option('--task <task>', 'what is compared')
          .choices(['classification', 'regression', 'retrieval'])
          .makeOptionMandatory(),
      )
      .option(
        '--inputs <columns>',
        "columns to send, a,b or input=column (default: the function's inputs by name)",
      )
      .option('--answer <field>', 'field of the answers that is compared, where they are structs')
      .option('--classes <classes>', 'a,b,c in the order of the scores (default: as the labels sort)')
      .option('--documents <file>', 'documents of a retrieval')
      .option('--id <column>', "column with the documents' ids", 'id')
      .option('--document-inputs <columns>', 'columns of the documents to send (default: as --inputs)')
      .option('--k <numbers>', 'cutoffs of recall, precision and nDCG', '1,5,10')
      .option('--concurrent-chunks <n>', 'calls in flight at most', wholeNumber(1, 256), 16)
      .option('--json', 'print JSON')
      .option('--output <file>', 'write the JSON there as well')
      .option('--python <path>', 'interpreter that has the sluice package and scikit-learn'),
  )
    .addHelpText('after', ABOUT)
    .action(async (target: string, file: string, options: EvaluationOptions) => {
      const { runEvaluation } = await import('../evaluate/run-evaluation.ts');
      await runEvaluation(target, file, options);
    });
};
