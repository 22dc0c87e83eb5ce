/** One call a batch: `text` is an array with the batch's rows; one number a row comes back. */
export const words = ({ text }) => text.map((one) => one.split(/\s+/).filter(Boolean).length);
