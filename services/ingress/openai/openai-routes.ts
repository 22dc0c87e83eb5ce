/** The routes of OpenAI's API, in a scope whose errors have OpenAI's shape. */
import type { Routes } from '../room.ts';
import { answerInOpenaiShape } from './openai-answer.ts';
import { taskRoutes } from './task-routes.ts';

export const openaiRoutes: Routes = (app, room) => {
  answerInOpenaiShape(app, room);
  taskRoutes(app, room);
};
