/**
 * How many parts a message of protocol buffers has, before objects are made of them: a part of two bytes becomes an object of a
 * hundred, and a message of 64 MiB gigabytes of them.
 */
import { SluiceError } from '../../../shared/errors/sluice-error.ts';

/** Tensors of a request, wanted outputs, parameters: as over HTTP. */
const PARTS_MAX = 4096;
/** Of a tensor: 32 dimensions of ten bytes each. */
const SHAPE_BYTES_MAX = 320;
/** Elements of BYTES in typed contents; raw contents are no objects. */
const ELEMENTS_MAX = 2 ** 20;

/** Field numbers of ModelInferRequest, of its inputs, and of their contents. */
const [PARAMETERS, INPUTS, OUTPUTS, RAW] = [4, 5, 6, 7];
const [SHAPE, INPUT_PARAMETERS, CONTENTS] = [3, 4, 5];
const BYTES_CONTENTS = 8;
const [VARINT, WIDE, LENGTH, NARROW] = [0, 1, 2, 5];

const refuse = (field: string, what: string): never => {
  throw new SluiceError('invalid_request', `${field} ${what}`, { field });
};

const noMessage = (at: number): never => refuse('The message', `is no ModelInferRequest at byte ${at}`);

/**
 * The fields of a message one after another, without their values. Groups, and numbers of more bytes than they need, which nobody
 * sends, are refused: decoders differ in how they read them, and what is counted here must be what is decoded.
 */
class Fields {
  readonly bytes: Uint8Array;
  readonly #end: number;
  #at: number;
  number = 0;
  /** Of the value. */
  from = 0;
  to = 0;

  constructor(bytes: Uint8Array, from = 0, to = bytes.byteLength) {
    this.bytes = bytes;
    this.#at = from;
    this.#end = to;
  }

  next(): boolean {
    if (this.#at >= this.#end) return false;
    const tag = this.#varint(5);
    this.number = Math.floor(tag / 8);
    const size = this.#size(tag % 8);
    this.from = this.#at;
    this.to = this.#at + size;
    if (this.to > this.#end) noMessage(this.#at);
    this.#at = this.to;
    return true;
  }

  #size(wire: number): number {
    if (wire === LENGTH) return this.#varint(5);
    if (wire === WIDE) return 8;
    if (wire === NARROW) return 4;
    if (wire !== VARINT) return noMessage(this.#at);
    this.#varint(10);
    return 0;
  }

  #varint(bytesMax: number): number {
    let value = 0;
    for (let i = 0; i < bytesMax && this.#at < this.#end; i += 1) {
      const byte = this.bytes[this.#at]!;
      this.#at += 1;
      value += (byte % 128) * 128 ** i;
      if (byte < 128) return value < 2 ** 32 || bytesMax > 5 ? value : noMessage(this.#at);
    }
    return noMessage(this.#at);
  }
}

/** @throws SluiceError `invalid_request` for a ModelInferRequest of more parts than anybody means */
export const checkParts = (message: Uint8Array): void => {
  const fields = new Fields(message);
  let parts = 0;
  let elements = 0;
  while (fields.next()) {
    const { number } = fields;
    if (number === PARAMETERS || number === INPUTS || number === OUTPUTS || number === RAW) parts += 1;
    if (parts > PARTS_MAX)
      refuse('inputs', `and all else are more than ${PARTS_MAX} parts; send fewer tensors`);
    if (number === INPUTS) elements += elementsOf(fields);
    if (elements > ELEMENTS_MAX)
      refuse(
        'bytes_contents',
        `has more than ${ELEMENTS_MAX} elements in all; send them as raw_input_contents`,
      );
  }
};

const elementsOf = ({ bytes, from, to }: Fields): number => {
  const fields = new Fields(bytes, from, to);
  let shapeBytes = 0;
  let parameters = 0;
  let elements = 0;
  while (fields.next()) {
    if (fields.number === SHAPE) shapeBytes += fields.to - fields.from;
    if (fields.number === INPUT_PARAMETERS) parameters += 1;
    if (shapeBytes > SHAPE_BYTES_MAX) refuse('shape', 'has more than 32 dimensions');
    if (parameters > PARTS_MAX) refuse('parameters', `are more than ${PARTS_MAX}`);
    if (fields.number !== CONTENTS) continue;
    const contents = new Fields(bytes, fields.from, fields.to);
    while (contents.next()) if (contents.number === BYTES_CONTENTS) elements += 1;
  }
  return elements;
};
