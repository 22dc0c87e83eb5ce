/**
 * The one catalogue of errors: what HTTP answers, what rows carry, what SDKs raise. docs/ERRORS.md is compared
 * with it by a test. `retryable` means that the same request may succeed later without a change.
 */
export type CatalogueEntry = {
  readonly status: number;
  readonly retryable: boolean;
  readonly title: string;
  readonly fix: string;
};

const entry = (status: number, retryable: boolean, title: string, fix: string): CatalogueEntry => ({
  status,
  retryable,
  title,
  fix,
});

export const CATALOGUE = {
  invalid_request: entry(400, false, 'The request is not valid', 'Correct the field that the detail names.'),
  invalid_json: entry(400, false, 'The body is not valid JSON', 'Send one JSON object as the detail says.'),
  invalid_arrow: entry(
    400,
    false,
    'The body is not a valid Arrow stream',
    'Write the table as an uncompressed Arrow IPC stream.',
  ),
  schema_mismatch: entry(
    400,
    false,
    "The columns do not match the function's inputs",
    'Send the columns that GET /v1/functions/{name} shows.',
  ),
  unauthorized: entry(
    401,
    false,
    'No valid API key',
    'Send Authorization: Bearer KEY; make one with `sluice keys create`.',
  ),
  forbidden: entry(
    403,
    false,
    'The API key lacks a scope',
    'Use a key with the scope that the detail names.',
  ),
  not_found: entry(404, false, 'Nothing is here', 'Check the path against /openapi.json.'),
  function_not_found: entry(
    404,
    false,
    'No such function',
    'Deploy it with `sluice deploy`, or list with `sluice functions`.',
  ),
  call_not_found: entry(
    404,
    false,
    'No such call',
    "Check the call id; another API key's calls are not shown.",
  ),
  model_not_found: entry(
    404,
    false,
    'No such model or model version',
    'Register it, or list with `sluice models`.',
  ),
  scaling_group_not_found: entry(
    404,
    false,
    'No such scaling group',
    'Deploy it, or list with `sluice groups`.',
  ),
  engine_not_found: entry(
    404,
    false,
    'No such inference engine or engine version',
    'Register it, or list with `sluice engines`.',
  ),
  drift_not_found: entry(
    404,
    false,
    'The scaling group is compared with no reference',
    'Set one with PUT /v1/scaling-groups/{name}/drift.',
  ),
  artifact_not_found: entry(
    404,
    false,
    'The artifact is not there, or not whole',
    'Upload it with PATCH /v1/artifacts/{digest}.',
  ),
  method_not_allowed: entry(
    405,
    false,
    'The method is not allowed here',
    'Check the method against /openapi.json.',
  ),
  not_acceptable: entry(
    406,
    false,
    'No such representation',
    'Accept application/json or application/vnd.apache.arrow.stream.',
  ),
  result_not_ready: entry(
    409,
    true,
    'The call is not finished',
    'Wait with ?wait=SECONDS, or ask for ?partial=true.',
  ),
  function_busy: entry(
    409,
    true,
    'The function has unfinished calls',
    'Purge it or wait until they are finished.',
  ),
  model_deployed: entry(
    409,
    false,
    'A scaling group runs the model version',
    'Deploy another version to the group, or delete the group.',
  ),
  engine_in_use: entry(
    409,
    false,
    'A scaling group runs the engine version',
    'Deploy another version of the engine to the group, or delete the group.',
  ),
  engine_version_exists: entry(
    409,
    false,
    'The engine version was registered with another configuration',
    'Versions are immutable: register it under another version.',
  ),
  no_earlier_version: entry(
    409,
    false,
    'The scaling group has had no other version',
    'Deploy the version that you want.',
  ),
  artifact_offset_conflict: entry(
    409,
    false,
    'The upload is at another offset',
    'Go on at the upload_offset of this answer.',
  ),
  changed_meanwhile: entry(
    409,
    true,
    'Another request changed it at the same time',
    'Read it again and repeat the change.',
  ),
  schemas_differ: entry(
    409,
    false,
    'The two versions have different schemas',
    'Repin only between versions with the same schemas.',
  ),
  call_gone: entry(
    410,
    false,
    'The call is past its retention',
    'Submit it again; raise the retention if results go too early.',
  ),
  precondition_failed: entry(
    412,
    false,
    'The bytes are not those that If-Match names',
    'Ask for them without If-Match, or under their digest.',
  ),
  payload_too_large: entry(413, false, 'The body is too large', 'Send fewer rows per call.'),
  unsupported_media_type: entry(
    415,
    false,
    'The content type is not supported',
    'Send application/json or application/vnd.apache.arrow.stream.',
  ),
  range_not_satisfiable: entry(
    416,
    false,
    'The range lies outside of the bytes',
    'Ask for a range of the bytes that Content-Range names.',
  ),
  idempotency_mismatch: entry(
    422,
    false,
    'The idempotency key was used with another body',
    'Use a new key for a new body.',
  ),
  invalid_function: entry(
    422,
    false,
    'The function cannot be registered',
    'Correct the option that the detail names.',
  ),
  invalid_model: entry(
    422,
    false,
    'The model version cannot be registered',
    'Correct the field that the detail names.',
  ),
  invalid_scaling_group: entry(
    422,
    false,
    'The scaling group cannot be deployed',
    'Correct the field that the detail names.',
  ),
  invalid_engine: entry(
    422,
    false,
    'The inference engine cannot be registered',
    'Correct the field that the detail names.',
  ),
  invalid_drift: entry(
    422,
    false,
    'The reference or the window cannot be compared',
    'Correct the field that the detail names.',
  ),
  artifact_digest_mismatch: entry(
    422,
    false,
    'The bytes do not have the digest that they were sent under',
    'Compute the SHA-256 of the file again and send it from the beginning.',
  ),
  queue_full: entry(429, true, 'The queue is full', 'Send again after Retry-After seconds.'),
  internal: entry(
    500,
    true,
    'Sluice failed',
    'Look at the server log; report it if it says that this is a bug.',
  ),
  shutting_down: entry(503, true, 'The server is shutting down', 'Send again after Retry-After seconds.'),
  store_unavailable: entry(
    503,
    true,
    'The store does not answer',
    'Send again after Retry-After seconds; look at the Redis server that --store names.',
  ),
  data_lost: entry(
    500,
    false,
    "The store's data was lost or replaced",
    'Submit the call again once the server is ready.',
  ),
  request_timeout: entry(
    504,
    true,
    'There was no answer in time',
    'Give more time, or submit a call and poll for its result.',
  ),
  disk_full: entry(
    507,
    true,
    'The disk limit is reached',
    'Free space, raise --disk-limit, or wait until results expire.',
  ),
  memory_full: entry(
    507,
    true,
    "The store's memory is nearly full",
    "Wait until results expire, lower --retention, or raise the Redis server's maxmemory.",
  ),
  handler_error: entry(
    500,
    false,
    'The handler raised an exception',
    'Read the traceback; correct the handler or the row.',
  ),
  handler_output_invalid: entry(
    500,
    false,
    'The handler returned a wrong answer',
    'Return one value of the output type for each row.',
  ),
  handler_crashed: entry(
    500,
    false,
    'The handler process died',
    "Read the handler's log; look for memory limits and native crashes.",
  ),
  handler_unavailable: entry(
    500,
    false,
    'The handler cannot start',
    'Read the reason in `sluice functions show NAME`.',
  ),
  call_timeout: entry(
    500,
    false,
    'The handler ran longer than call_timeout',
    'Raise call_timeout, or send smaller batches.',
  ),
  row_error: entry(500, false, 'The handler refused this row', 'Read the message; correct the row.'),
  row_quarantined: entry(
    500,
    false,
    'The row kills its worker',
    'Remove the row; it was tried alone and the process died again.',
  ),
  row_unfinished: entry(409, true, 'The row is not finished', 'Ask again later, or wait for the call.'),
  row_cancelled: entry(409, false, 'The row was cancelled', 'Submit it again if it is still wanted.'),
  row_expired: entry(
    409,
    false,
    "The call's deadline passed before the row ran",
    'Give a later deadline or more replicas.',
  ),
} as const satisfies Record<string, CatalogueEntry>;

export type ErrorCode = keyof typeof CATALOGUE;

export const isErrorCode = (code: string): code is ErrorCode => Object.hasOwn(CATALOGUE, code);
