/** Every long-lived part: starts once, stops twice without harm, stops before it started without harm. */
export interface Service {
  start(): Promise<void>;
  stop(): Promise<void>;
}
